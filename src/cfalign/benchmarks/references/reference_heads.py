"""What reference heads are worth, and what an audit can say of that itself.

Interventions say what a head truly sees: its own attribute, and the partner that it was confounded with in training
(``own``, ``leak``). An audit does not have them; it has ``CHECKS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cfalign._analysis.relations import mutual
from cfalign._audit.head_checks import check_heads
from cfalign._audit.options import AuditOptions
from cfalign._audit.shards import Shards
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._results import Floats
from cfalign._runs.run import Run
from cfalign._types import Classifier
from cfalign.benchmarks.true_effects import Interventions
from cfalign.synthetic import ATTRIBUTES, INTERVENABLE
from cfalign.training.recipes.planted_shortcuts import PAIRS

PARTNERS = dict(PAIRS) | {shortcut: target for target, shortcut in PAIRS}
"""Attribute → the one that it goes together with where reference heads are trained."""
CHECKS = ("judge_share", "judge_share_low", "disagreement", "drift", "entangled", "answers", "misread", "mutual")
"""What an audit alone says of one head.

``judge_share``, ``judge_share_low``: how far the judge follows, and the lower end of its interval. ``disagreement``:
mean |judge − head| over reconstructions. ``drift``: mean change of its score by the autoencoder. ``entangled``,
``answers``, ``misread``: how far another attribute moves with it, how far it answers to the counterfactuals of another,
and how far beyond its judge (``head_checks.check_heads``). ``mutual``: how far it and another move each other
(``relations.mutual``).
"""
LOW_IS_BAD = ("judge_share", "judge_share_low")


@dataclass(frozen=True)
class ReferenceHead:
    """One reference head; NaN where undefined."""

    attribute: str
    accuracy: float
    """On faces whose attributes are independent."""
    own: float
    """Effect by intervention of its attribute on it, over such faces."""
    leak: float
    """Size of the effect by intervention of its partner in training; NaN without one."""
    checks: Mapping[str, float]
    """``CHECKS``; those that need a judge are NaN without one."""


@dataclass(frozen=True)
class IndependentFaces:
    """Faces whose attributes are independent, on which reference heads show what they are worth."""

    images: Tensor
    labels: Tensor
    """[face, attribute of ``ATTRIBUTES``]"""
    interventions: Interventions

    def accuracies(self, classifier: Classifier) -> list[float]:
        """Share of faces on the right side of 0.5, by head."""
        with undisturbed(classifier):
            scores = respond(self.images, [classifier])
        labels = self.labels[:, [ATTRIBUTES.index(target) for target in classifier.targets]]
        accuracies: list[float] = ((scores > 0) == (labels > 0.5)).double().mean(dim=0).tolist()
        return accuracies


def known_heads(
    reference: Classifier, run: Run, options: AuditOptions, *, faces: IndependentFaces
) -> tuple[ReferenceHead, ...]:
    """All heads of the reference that a run stands on."""
    effects = faces.interventions.effects([reference])
    checks = _checks(run, options, reference.targets)
    heads = []
    for k, (target, accuracy) in enumerate(zip(reference.targets, faces.accuracies(reference), strict=True)):
        head = ReferenceHead(
            attribute=target,
            accuracy=accuracy,
            own=_effect_of(target, effects[:, k]),
            leak=abs(_effect_of(PARTNERS.get(target), effects[:, k])),
            checks=checks[target],
        )
        heads.append(head)
    return tuple(heads)


def _effect_of(attribute: str | None, column: Floats) -> float:
    """The effect of one attribute, from those of all of ``INTERVENABLE``; NaN for one that is not among them."""
    if attribute is None or attribute not in INTERVENABLE:
        return float("nan")
    return float(column[INTERVENABLE.index(attribute)])


def _checks(run: Run, options: AuditOptions, targets: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """``CHECKS`` by head."""
    content = run.record()
    attributes, judges = content["attributes"], content["judges"]
    columns = [*attributes, *judges.values()]
    shards = Shards.of(run)
    rows = shards.switched(attributes, columns, options=options)
    found = check_heads(rows, columns, scores=shards.scores, attributes=attributes, judges=judges)
    ratios = {(cell.base, cell.downstream): cell.ratio_of_means for cell in run.cells()}
    together = mutual(ratios, attributes, least=0.0)
    checks = {}
    for target in targets:
        control = content["controls"].get(target, {})
        sizes = [size for *pair, size in together if target in pair]
        checks[target] = {
            "judge_share": _number(control.get("judge_share")),
            "judge_share_low": _number(control.get("ci_low")),
            "drift": _number(content["drift"].get(target)),
            **found[target],
            "mutual": max(sizes, default=float("nan")),
        }
    return checks


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
