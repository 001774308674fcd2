"""Correlation against use: the comparison that the paper draws by eye (its Fig. 2), made explicit.

The scores of two heads may be correlated over images although neither uses the other's features. A head may use a
feature although its score is not correlated with it. And one of two heads may use the other's feature and not the other
way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from cfalign._results import Cell, Effect, Floats, Relation, RelationKind

CORRELATED = 0.3
"""|r| from which scores count as correlated."""
UNCORRELATED = 0.1
"""|r| below which they count as uncorrelated."""
ASYMMETRIC = 0.3
"""Least difference of ψ between the two directions."""
MUTUAL = 0.5
"""Least ψ in both directions between two attributes that cannot be told apart."""
MOST = 20
"""Relations kept of each kind."""


def relations(
    found: Sequence[Effect],
    cells: Sequence[Cell],
    scores: Mapping[str, Floats],
    *,
    min_effect: float,
) -> list[Relation]:
    """The remarkable relations, kind by kind, most remarkable first, at most ``MOST`` of each.

    ``scores``: of every head on x0, [image], NaN where unknown.
    """
    cell = {(c.base, c.downstream): c for c in cells}
    kept: dict[RelationKind, list[tuple[float, Relation]]] = {kind: [] for kind in RelationKind}
    for e in found:
        r, images = _correlation(scores[e.audited], scores[e.attribute])
        out, back = cell.get((e.audited, e.attribute)), cell.get((e.attribute, e.audited))
        for kind, weight in _remarkable(e, r, _apart(out, back), min_effect).items():
            relation = Relation(
                kind=kind,
                audited=e.audited,
                attribute=e.attribute,
                correlation=r,
                images=images,
                effect=e.effect,
                ci_low=e.ci_low,
                ci_high=e.ci_high,
                q=e.q,
                outgoing=out.psi if out else float("nan"),
                returning=back.psi if back else float("nan"),
            )
            kept[kind].append((weight, relation))
    ranked = [sorted(rows, key=lambda row: -row[0])[:MOST] for rows in kept.values()]
    return [relation for rows in ranked for _, relation in rows]


def _remarkable(e: Effect, r: float, apart: float, min_effect: float) -> dict[RelationKind, float]:
    """The kinds of relation that an effect is, and how remarkable it is as such."""
    found = {}
    negligible = -min_effect < e.ci_low <= e.ci_high < min_effect
    if abs(r) >= CORRELATED and negligible:
        found[RelationKind.NOT_USED] = abs(r)
    if abs(r) < UNCORRELATED and e.clear and abs(e.effect) >= min_effect:
        found[RelationKind.UNCORRELATED] = abs(e.effect)
    if apart >= ASYMMETRIC:
        found[RelationKind.ASYMMETRIC] = apart
    return found


def mutual(
    psi: Mapping[tuple[str, str], float], attributes: Sequence[str], *, least: float = MUTUAL
) -> list[tuple[str, str, float]]:
    """Pairs of attributes whose counterfactuals move each other, with min(|ψ(a → b)|, |ψ(b → a)|), strongest first.

    Their reference heads confuse the two, as heads do that learnt from images where the two went together, or the two
    are one thing, such as beard and no_beard. One direction alone says less: an attribute that is made of others
    follows each of them. ``psi``: (base, downstream) → ΣΔdownstream / ΣΔbase; a pair without both is left out.
    """
    nan = float("nan")
    sizes = [(a, b, abs(psi.get((a, b), nan)), abs(psi.get((b, a), nan))) for a, b in combinations(attributes, 2)]
    pairs = [(a, b, min(there, back)) for a, b, there, back in sizes if there >= least and back >= least]
    return sorted(pairs, key=lambda p: -p[2])


def _correlation(one: Floats, other: Floats) -> tuple[float, int]:
    """Pearson's r over the images on which both are known, and their number; NaN where one does not vary."""
    known = np.isfinite(one) & np.isfinite(other)
    a, b = one[known], other[known]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan"), len(a)
    return float(np.corrcoef(a, b)[0, 1]), len(a)


def _apart(out: Cell | None, back: Cell | None) -> float:
    """Difference of ψ where the intervals do not meet; 0 otherwise, and where one direction has no number."""
    if out is None or back is None or not np.isfinite([out.psi, back.psi]).all():
        return 0.0
    meet = out.ci_low <= back.ci_high and back.ci_low <= out.ci_high
    return 0.0 if meet else abs(out.psi - back.psi)
