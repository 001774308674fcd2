"""Do both packages find the same alignment matrix? Mean relative changes, cell by cell, where both land on one drop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfalign._analysis.alignment import relative_change
from cfalign._results import Floats
from cfalign.benchmarks.speed.contestants import Answers

LEAST_CHANGE = 0.3
"""Of the base, below which a relative change does not count, in both packages."""
SAME_DROP = {"schedule": 1e-3, "refined": 0.02}
"""Two drops are the same within this, by strategy: ``schedule`` takes the authors' steps, ``refined`` its own."""


@dataclass(frozen=True)
class Agreement:
    """The matrices of the authors' package and of cfalign with one strategy, on the same pairs."""

    strategy: str
    pairs: int
    """Pairs of both packages."""
    same_drop: int
    """Those that move the base enough and land on the same drop, which is all that is compared."""
    tolerance: float
    """Within which two drops are the same."""
    cells: int
    """(base, head) cells with at least one such pair."""
    largest: float
    """Largest |difference| of mean ψ of a cell; NaN without cells."""
    mean: float
    """Mean |difference|; NaN without cells."""


def agreement(theirs: Answers, their_psi: Floats, ours: Answers, *, strategy: str) -> Agreement:
    """Compare mean ψ of every cell (Eq. 3). ``their_psi``: ψ [pair, head] as the authors' package rounds it.

    The pairs of both are the same, in any order.
    """
    place = {pair: i for i, pair in enumerate(ours.pairs)}
    order = [place[pair] for pair in theirs.pairs]
    own = ours.own[order]
    drops = np.stack([theirs.own[:, 0] - theirs.own[:, 1], own[:, 0] - own[:, 1]], axis=1)
    tolerance = SAME_DROP[strategy]
    same = (drops > LEAST_CHANGE).all(axis=1) & (np.abs(drops[:, 0] - drops[:, 1]) <= tolerance)
    change = (ours.after - ours.before)[order]
    psi = relative_change(change, -drops[:, 1], min_base_change=LEAST_CHANGE)
    bases = np.array([base for base, _ in theirs.pairs])
    apart = [
        np.abs(psi[mine].mean(axis=0) - their_psi[mine].mean(axis=0))
        for base in np.unique(bases)
        if (mine := same & (bases == base)).any()
    ]
    cells = np.concatenate(apart) if apart else np.array([])
    return Agreement(
        strategy=strategy,
        pairs=len(theirs),
        same_drop=int(same.sum()),
        tolerance=tolerance,
        cells=len(cells),
        largest=float(cells.max()) if len(cells) else float("nan"),
        mean=float(cells.mean()) if len(cells) else float("nan"),
    )
