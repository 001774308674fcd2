"""Which judge watches reference heads that are given without one."""

from __future__ import annotations

from cfalign import classifiers
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign._models.fingerprint import fingerprint
from cfalign._types import Classifier


def reference_of(given: Classifier | Reference) -> Reference:
    """A reference with its judge; that of the embedded heads is the embedded oracle."""
    if isinstance(given, Reference):
        if given.judge is not None and _same(given.judge, given.classifier):
            raise BadInput(
                "The judge is the reference classifier itself; expected one trained independently of it (another seed "
                "or architecture, other images), or None."
            )
        return given
    embedded = getattr(given, "spec", None) == "embedded"
    return Reference(given, classifiers.load("embedded:oracle") if embedded else None)


def _same(one: Classifier, other: Classifier) -> bool:
    return one is other or fingerprint(one) == fingerprint(other)
