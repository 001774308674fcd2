"""The incoming reading and its unmixing (not in the paper): what each attribute does to an audited head.

Counterfactuals lower an attribute where it is present and raise it where it is absent, so that their mean stands for
all images: on confounded images, removing an attribute does something else than adding it.

A counterfactual of attribute B moves other attributes too. An independent judge tells by how much, since no
counterfactual was made against it: Ψ[B, C] = ΣΔC / ΣΔB over the counterfactuals of B. The responses of the audited
head, r[B] = Σ_C Ψ[B, C] · e[C], are solved for the effects e. Their prior expects few of them (the horseshoe), because
a classifier uses few attributes; ridge regression spreads an effect over all attributes that resemble it.

The intervals contain two errors. One is the part of r that the attributes do not explain, either because there are few
images or because a counterfactual changes something that no attribute describes. The other is that a counterfactual
may switch an attribute further, or less far, than its judge says.

An audited head is no witness of its own concept. Where the judge watches that concept, the judge's column explains it;
where nobody does, whatever a counterfactual does to the concept would be booked on other attributes, so such heads have
no effects. Attributes that cannot be told apart have one joint effect, and the intervals of their own effects hold that
any of them may have the share of another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cfalign._analysis.alignment import Row
from cfalign._analysis.inseparable import Inseparable
from cfalign._analysis.options import EffectOptions
from cfalign._analysis.statistics import People, q_values
from cfalign._analysis.unmixing import NAN, UNSOLVED, Problem, Solutions, Solved, solved
from cfalign._results import Effect, JointEffect


@dataclass(frozen=True)
class Unmixed:
    """The solution."""

    effects: list[Effect]
    joint: list[JointEffect]
    carried: dict[tuple[str, str], tuple[float, float, float]]
    """(audited, attribute) → the sum of the head's effects between images with the attribute and images without,
    without its own concept: mean and 95 % interval; see ``group_gaps``. No entry where unknown."""


def effects(
    rows: Sequence[Row],
    heads: Sequence[str],
    audited: Sequence[str],
    *,
    outgoing: Mapping[tuple[str, str], float] | None = None,
    witnesses: Mapping[str, str] | None = None,
    spans: Mapping[str, float] | None = None,
    together: Mapping[tuple[str, str], float] | None = None,
    same: Mapping[str, str] | None = None,
    groups: Sequence[Inseparable] = (),
    reach: Mapping[str, float] | None = None,
    unwitnessed: Collection[str] = (),
    options: EffectOptions,
    seed: int = 0,
    people: People | None = None,
) -> Unmixed:
    """Effect of every attribute (base of a row, itself a head) on every audited head, with intervals and q-values.

    An effect is the mean change of the audited score when the attribute is switched from absent to present.

    A head that is among the attributes explains nothing of itself: its own counterfactuals do not count, and only the
    judge of its concept stands for it. An attribute without counterfactuals has NaN effect and n = 0.

    Args:
        rows: usable counterfactuals, one row per attribute and way (lowered, raised).
        heads: the columns of the rows.
        outgoing: ψ(audited → attribute) where known.
        witnesses: the column that tells how far an attribute moved; by default the attribute's own head.
        spans: the mean score of images with an attribute minus that of images without, by its witness; 1 by default.
        together: (present, attribute) → how much more of the attribute there is where the first is present, as a share
            of a full switch. Without it ``carried`` is empty.
        same: the head that stands for a copy or a complement of it: these count as one head, so an audited head has no
            effect of its own complement.
        groups: attributes that cannot be told apart; their joint effect on a head is sought where none of them is its
            own concept.
        reach: the largest change that the score of an audited head can make; 1 by default. Effects lie within it.
        unwitnessed: audited heads whose concept has no witness; all their numbers but n and the readings are NaN.
        people: the group of each image, by the numbers of ``Row.image``, where images are not independent.
    """
    attributes = tuple(dict.fromkeys(row.base for row in rows))
    able = [a for a in audited if a not in unwitnessed]
    given = (witnesses or {}, spans or {}, together or {}, same or {}, reach or {})
    problem = _posed(rows, heads, able, groups, *given, people)
    found = solved(problem, options, seed) if problem.rows and able else Solutions({}, {})
    q = q_values(np.array([s.p for s in found.of_attributes.values()]))
    q_of = dict(zip(found.of_attributes, q.tolist(), strict=True))
    n_of = {a: sum(len(row) for row in rows if row.base == a) for a in attributes}
    out = outgoing or {}
    pairs = [(a, b) for a in audited for b in attributes if not problem.itself(a, b)]
    result = [
        _effect(*p, found.of_attributes.get(p, UNSOLVED), out.get(p, NAN), n_of[p[1]], q_of.get(p, NAN)) for p in pairs
    ]
    carried = {pair: s.carried for pair, s in found.of_attributes.items() if np.isfinite(s.carried[0])}
    return Unmixed(result, _joint(found.of_groups, n_of), carried)


def _posed(
    rows: Sequence[Row],
    heads: Sequence[str],
    audited: Sequence[str],
    groups: Sequence[Inseparable],
    witnesses: Mapping[str, str],
    spans: Mapping[str, float],
    together: Mapping[tuple[str, str], float],
    same: Mapping[str, str],
    reach: Mapping[str, float],
    people: People | None,
) -> Problem:
    used = [row for row in rows if len(row)]
    found = tuple(dict.fromkeys(row.base for row in used))
    return Problem(
        groups=[g for g in groups if set(g.attributes) <= set(found)],
        reach=np.array([reach.get(a, 1.0) for a in audited]),
        rows=used,
        heads=heads,
        attributes=found,
        watched=[witnesses.get(a, a) for a in found],
        audited=audited,
        spans=np.array([spans.get(a, 1.0) for a in found]),
        together=np.array([[together.get((b, a), np.nan) for a in found] for b in found]),
        same=same,
        people=people,
    )


def _joint(solved: Mapping[tuple[str, Inseparable], Solved], n_of: Mapping[str, int]) -> list[JointEffect]:
    """The joint effects; their q-values are among themselves."""
    q = q_values(np.array([s.p for s in solved.values()]))
    return [
        JointEffect(
            audited=audited,
            attributes=group.name,
            effect=s.effect[0],
            ci_low=s.effect[1],
            ci_high=s.effect[2],
            incoming=s.incoming,
            n=sum(n_of[a] for a in group.attributes),
            q=float(value),
        )
        for ((audited, group), s), value in zip(solved.items(), q, strict=True)
    ]


def _effect(audited: str, attribute: str, numbers: Solved, outgoing: float, n: int, q: float) -> Effect:
    effect, ci_low, ci_high = numbers.effect
    return Effect(
        audited=audited,
        attribute=attribute,
        effect=effect,
        ci_low=ci_low,
        ci_high=ci_high,
        incoming=numbers.incoming,
        outgoing=outgoing,
        n=n,
        q=q,
    )
