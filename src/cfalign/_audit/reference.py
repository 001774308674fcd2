"""Which judge watches reference heads that are given without one."""

from __future__ import annotations

from pathlib import Path

from cfalign import classifiers
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign._models.fingerprint import fingerprint
from cfalign._runs.unnamed import JUDGE
from cfalign._types import Classifier
from cfalign.classifiers import JoinedClassifier


def reference_of(given: Classifier | Reference) -> Reference:
    """A reference with its judge: that of the embedded heads is the embedded oracle, a named feature has its own."""
    if isinstance(given, Reference):
        if given.judge is not None and _same(given.judge, given.classifier):
            raise BadInput(
                "The judge is the reference classifier itself; expected one trained independently of it (another seed "
                "or architecture, other images), or None."
            )
        return given
    return Reference(given, _judge_of(given))


def _judge_of(given: Classifier) -> Classifier | None:
    """The judge that goes with a classifier: that of the embedded heads, of a named feature, or of the members."""
    if isinstance(given, JoinedClassifier):
        found = [judge for judge in map(_judge_of, given.members) if judge is not None]
        return JoinedClassifier(found, name="judge") if len(found) > 1 else next(iter(found), None)
    spec = getattr(given, "spec", None)
    if spec == "embedded":
        return classifiers.load("embedded:oracle")
    folder = None if spec is None else Path(spec) / JUDGE
    return classifiers.load(str(folder)) if folder is not None and folder.is_dir() else None


def _same(one: Classifier, other: Classifier) -> bool:
    return one is other or fingerprint(one) == fingerprint(other)
