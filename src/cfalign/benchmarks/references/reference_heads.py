"""What reference heads are worth, and what an audit can say of that itself.

Interventions say what a head truly sees: its own attribute, and the partner that it was confounded with in training
(``own``, ``leak``). An audit does not have them; it has ``CHECKS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cfalign._analysis.relations import mutual
from cfalign._audit.conclusions import check_heads, switched_off
from cfalign._audit.options import AuditOptions
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._runs.run import Run
from cfalign._types import Classifier
from cfalign.benchmarks.interventions import Interventions
from cfalign.synthetic import ATTRIBUTES, INTERVENABLE
from cfalign.training.recipes.planted_shortcuts import PAIRS

PARTNERS = dict(PAIRS) | {shortcut: target for target, shortcut in PAIRS}
"""Attribute → the one that it goes together with where reference heads are trained."""
CHECKS = ("judge_share", "judge_share_low", "disagreement", "drift", "entangled", "answers", "misread", "mutual")
"""Of one head, from an audit alone: how far the judge follows and the lower end of its interval; mean |judge − head|
over reconstructions; mean change of its score by the autoencoder; and by ``findings.check_heads`` how far another
attribute moves with it, how far it answers to the counterfactuals of another, and how far beyond its judge; by
``comparisons.mutual`` how far it and another move each other."""
LOW_IS_BAD = ("judge_share", "judge_share_low")


@dataclass(frozen=True)
class Head:
    """One reference head; NaN where undefined."""

    attribute: str
    accuracy: float
    """On faces whose attributes are independent."""
    own: float
    """Effect by intervention of its attribute on it, over such faces."""
    leak: float
    """Size of the effect by intervention of its partner in training; NaN without one."""
    checks: Mapping[str, float]
    """``CHECKS``; those of a judge are NaN without one."""


@dataclass(frozen=True)
class Material:
    """Faces with independent attributes, for what reference heads are worth."""

    images: Tensor
    labels: Tensor
    """[face, attribute of ``ATTRIBUTES``]"""
    interventions: Interventions


def known_heads(reference: Classifier, run: Run, options: AuditOptions, *, material: Material) -> tuple[Head, ...]:
    """All heads of the reference that a run stands on."""
    nan = float("nan")
    table = material.interventions.effects([reference])
    with undisturbed(reference):
        scores = respond(material.images, [reference])
    labels = material.labels[:, [ATTRIBUTES.index(t) for t in reference.targets]]
    right = ((scores > 0) == (labels > 0.5)).double().mean(dim=0).tolist()
    content = run.record()
    attributes, judges = content["attributes"], content["judges"]
    columns = [*attributes, *judges.values()]
    rows = switched_off(run, attributes, columns, options=options)
    found = check_heads(rows, columns, scores=run.scores(), attributes=attributes, judges=judges)
    cells = run.matrix().select("base", "downstream", "ratio_of_means").fill_null(nan).rows()
    apart = mutual({(b, d): psi for b, d, psi in cells}, attributes, least=0.0)
    result = []
    for k, target in enumerate(reference.targets):
        own = table[INTERVENABLE.index(target), k] if target in INTERVENABLE else float("nan")
        leak = abs(table[INTERVENABLE.index(PARTNERS[target]), k]) if target in PARTNERS else float("nan")
        control = content["controls"].get(target, {})
        checks = {
            "judge_share": _number(control.get("judge_share")), "judge_share_low": _number(control.get("ci_low")),
            "drift": _number(content["drift"].get(target)), **found[target],
            "mutual": max((size for *pair, size in apart if target in pair), default=nan),
        }  # fmt: skip
        result.append(Head(target, right[k], float(own), float(leak), checks))
    return tuple(result)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
