"""What goes together against what is used: the comparison that the paper draws by eye (its Fig. 2), made explicit.

Heads whose scores go together over images need not use each other's features, and a head can use a feature that its
score does not go together with; and one of two heads can use the other's and not the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

import numpy as np

from cfalign._results import Cell, Effect, Floats

CORRELATED = 0.3
"""|r| from which scores go together."""
UNCORRELATED = 0.1
"""|r| below which they do not."""
ASYMMETRIC = 0.3
"""Least difference of ψ between the two directions."""
MUTUAL = 0.5
"""Least ψ in both directions between two attributes that cannot be told apart."""
MOST = 20
"""Relations kept of each kind."""


class Kind(StrEnum):
    """What is remarkable about a relation."""

    NOT_USED = "correlated_not_used"
    """The scores go together, |r| ≥ 0.3, and the interval of the effect lies within ± ``min_effect``."""
    UNCORRELATED = "used_uncorrelated"
    """An effect that stands out, of at least ``min_effect``, though |r| < 0.1."""
    ASYMMETRIC = "asymmetric"
    """ψ differs between the two directions by at least 0.3, with intervals that do not meet."""


@dataclass(frozen=True)
class Relation:
    """An audited head and an attribute; NaN where a number is undefined."""

    kind: Kind
    audited: str
    attribute: str
    correlation: float
    """Pearson's r of the two scores over the reconstructions."""
    images: int
    """Those that it rests on."""
    effect: float
    ci_low: float
    ci_high: float
    q: float
    outgoing: float
    """ψ(audited → attribute)."""
    returning: float
    """ψ(attribute → audited), mean over images as ``outgoing`` is."""


def relations(
    found: Sequence[Effect],
    cells: Sequence[Cell],
    scores: Mapping[str, Floats],
    *,
    min_effect: float,
) -> list[Relation]:
    """The remarkable relations, kind by kind, most remarkable first, at most ``MOST`` of each.

    ``scores``: of every head on the reconstructions, [image], NaN where unknown.
    """
    cell = {(c.base, c.downstream): c for c in cells}
    kept: dict[Kind, list[tuple[float, Relation]]] = {kind: [] for kind in Kind}
    for e in found:
        r, images = _correlation(scores[e.audited], scores[e.attribute])
        out, back = cell.get((e.audited, e.attribute)), cell.get((e.attribute, e.audited))
        apart = _apart(out, back)
        clear = e.q < 0.05 and (e.ci_low > 0 or e.ci_high < 0) and abs(e.effect) >= min_effect
        kinds = {
            Kind.NOT_USED: abs(r) if abs(r) >= CORRELATED and -min_effect < e.ci_low <= e.ci_high < min_effect else 0.0,
            Kind.UNCORRELATED: abs(e.effect) if clear and abs(r) < UNCORRELATED else 0.0,
            Kind.ASYMMETRIC: apart if apart >= ASYMMETRIC else 0.0,
        }
        for kind, weight in kinds.items():
            if weight > 0:
                psi = [c.psi if c else float("nan") for c in (out, back)]
                kept[kind].append((weight, Relation(
                    kind, e.audited, e.attribute, r, images, e.effect, e.ci_low, e.ci_high, e.q, psi[0], psi[1],
                )))  # fmt: skip
    ranked = [sorted(rows, key=lambda row: -row[0])[:MOST] for rows in kept.values()]
    return [relation for rows in ranked for _, relation in rows]


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
