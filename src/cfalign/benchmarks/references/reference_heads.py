"""Quality of reference heads: by interventions, and by the checks that an audit can make itself.

Interventions measure the true effect on a head of its own attribute (``own``) and of the partner that it was confounded
with in training (``leak``). An audit has no interventions; it has ``CHECKS``.
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
"""Attribute → its partner: the attribute that it is correlated with in the training of reference heads."""
CHECKS = ("judge_share", "judge_share_low", "disagreement", "drift", "entangled", "answers", "misread", "mutual")
"""Checks of one head by an audit alone.

``judge_share``, ``judge_share_low``: how far the judge follows the head's counterfactuals, and the lower end of the
interval. ``disagreement``: mean |judge − head| over reconstructions. ``drift``: mean change of the head's score by the
autoencoder. ``entangled``: how far another attribute moves with it. ``answers``: how far it answers to the
counterfactuals of another attribute. ``misread``: how far it answers beyond its judge (``head_checks.check_heads``).
``mutual``: how far it and another head move each other (``relations.mutual``).
"""
LOW_IS_BAD = ("judge_share", "judge_share_low")
"""Checks whose low values are bad; high values of the others are."""


@dataclass(frozen=True)
class ReferenceHead:
    """Quality of one reference head; NaN where undefined."""

    attribute: str
    accuracy: float
    """Over faces with independent attributes."""
    own: float
    """Effect by intervention of its own attribute on it, over the same faces."""
    leak: float
    """Size of the effect by intervention of its partner in training on it; NaN without a partner."""
    checks: Mapping[str, float]
    """Values by name of ``CHECKS``; those that need a judge are NaN without one."""


@dataclass(frozen=True)
class IndependentFaces:
    """Faces with independent attributes, for the accuracies of and true effects on reference heads."""

    images: Tensor
    labels: Tensor
    """[face, attribute of ``ATTRIBUTES``]"""
    interventions: Interventions

    def accuracies(self, classifier: Classifier) -> list[float]:
        """Share of faces whose probability is on the right side of 0.5, by head."""
        with undisturbed(classifier):
            scores = respond(self.images, [classifier])
        labels = self.labels[:, [ATTRIBUTES.index(target) for target in classifier.targets]]
        accuracies: list[float] = ((scores > 0) == (labels > 0.5)).double().mean(dim=0).tolist()
        return accuracies


def known_heads(
    reference: Classifier, run: Run, options: AuditOptions, *, faces: IndependentFaces
) -> tuple[ReferenceHead, ...]:
    """Quality of all heads of the run's reference."""
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
    """The effect of one attribute, from the effects of all of ``INTERVENABLE``; NaN for any other attribute."""
    if attribute is None or attribute not in INTERVENABLE:
        return float("nan")
    return float(column[INTERVENABLE.index(attribute)])


def _checks(run: Run, options: AuditOptions, targets: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """By head: values by name of ``CHECKS``."""
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
