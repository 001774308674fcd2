"""Agreement of an estimate with the truth: scores of detectors, errors, rank correlations, and their intervals.

AUROC is in ``_analysis.statistics``. SciPy has neither AUROC nor average precision.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cfalign._analysis.statistics import generator, percentile_interval
from cfalign._results import Floats

Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]
"""Row numbers, with repetitions in a resample."""

RANK_RESAMPLES = 2000
LEAST_RANKED = 3
"""A rank correlation needs at least this many rows."""


@dataclass(frozen=True)
class Score:
    """A number with its 95 % bootstrap interval."""

    value: float
    ci_low: float
    ci_high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.ci_low:.3f}, {self.ci_high:.3f}]"


UNDEFINED = Score(float("nan"), float("nan"), float("nan"))


def score_of_groups(
    number: Callable[[Rows], float], groups: Sequence[Rows], *, resamples: int, rng: np.random.Generator
) -> Score:
    """``number`` of all rows, with a 95 % interval from resampling whole groups of rows; NaN without groups.

    Resamples in which the number is undefined (NaN) do not count.
    """
    if not groups:
        return UNDEFINED
    drawn = []
    for _ in range(resamples):
        chosen = rng.integers(0, len(groups), len(groups))
        drawn.append(number(np.concatenate([groups[g] for g in chosen])))
    low, high = percentile_interval(np.array(drawn)[:, None])
    every = np.sort(np.concatenate(groups))
    return Score(number(every), float(low[0]), float(high[0]))


def average_precision(score: Floats, positive: Floats | Flags) -> float:
    """Mean precision at every positive; equal scores keep the given order; NaN without positives."""
    order = np.argsort(-score, kind="stable")
    hit = np.asarray(positive, dtype=bool)[order]
    if not hit.any():
        return float("nan")
    precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
    return float(precision[hit].mean())


def share(flags: Flags) -> float:
    """Share of flags that are set; NaN without flags."""
    return float(np.mean(flags)) if len(flags) else float("nan")


def mean_of_known(values: Sequence[float] | Floats) -> float:
    """Mean of the values that are finite; NaN without any."""
    array = np.asarray(values, dtype=np.float64)
    known = array[np.isfinite(array)]
    return float(np.mean(known)) if len(known) else float("nan")


def rmse(estimate: Floats, truth: Floats) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((estimate - truth) ** 2)))


def pearson(estimate: Floats, truth: Floats) -> float:
    """Pearson's correlation; NaN below three rows, or where one side does not vary."""
    if len(truth) < 3 or np.ptp(estimate) == 0 or np.ptp(truth) == 0:
        return float("nan")
    return float(np.corrcoef(estimate, truth)[0, 1])


def spearman(x: Floats, y: Floats) -> Floats:
    """Rank correlation along the last axis; equal values share their mean rank; NaN where a side does not vary.

    One call serves thousands of resamples; ``scipy.stats.spearmanr`` takes one pair of columns at a time.
    """
    a, b = (rankdata(values, axis=-1) for values in (x, y))
    a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (a, b))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    safe = np.where(scale > 0, scale, 1.0)
    return np.asarray(np.where(scale > 0, (a * b).sum(axis=-1) / safe, np.nan))


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ of two measures within groups, averaged over the groups; NaN if no group has an order."""

    rho: float
    ci_low: float
    ci_high: float
    """95 % bootstrap interval over rows, drawn within their groups."""
    n: int
    """Rows in groups that have an order."""
    groups: int


def rank_correlation(
    x: Floats, y: Floats, groups: Sequence[Hashable], *, seed: int, stream: str = "agreement"
) -> RankCorrelation:
    """Spearman's ρ of two measures [row] within groups, given by one name per row.

    Three things are left out: rows with a NaN, groups of fewer than three rows, and groups in which a measure is the
    same for all rows. A resample in which a measure is constant within a group is averaged without that group.
    ``stream``: name of the random draws.
    """
    values, drawn, n = [], [], 0
    for group, rows in _known_rows(x, y, groups).items():
        if len(rows) < LEAST_RANKED:
            continue
        value = float(spearman(x[rows], y[rows]))
        if np.isnan(value):
            continue
        rng = generator(seed, stream, str(group))
        again = rows[rng.integers(0, len(rows), size=(RANK_RESAMPLES, len(rows)))]
        values.append(value)
        drawn.append(spearman(x[again], y[again]))
        n += len(rows)
    if not values:
        return RankCorrelation(np.nan, np.nan, np.nan, 0, 0)
    low, high = percentile_interval(_mean_over_groups(np.stack(drawn))[:, None])
    return RankCorrelation(float(np.mean(values)), float(low[0]), float(high[0]), n, len(values))


def _known_rows(x: Floats, y: Floats, groups: Sequence[Hashable]) -> dict[Hashable, Rows]:
    """Rows in which both measures are finite, by group in order of appearance."""
    known = np.isfinite(x) & np.isfinite(y)
    rows: dict[Hashable, list[int]] = {group: [] for group in groups}
    for row in np.flatnonzero(known).tolist():
        rows[groups[row]].append(row)
    return {group: np.array(mine, dtype=np.int64) for group, mine in rows.items()}


def _mean_over_groups(table: Floats) -> Floats:
    """Mean of [group, resample] over the groups where it is finite; NaN where it is nowhere."""
    counted = np.isfinite(table).sum(axis=0)
    total = np.nansum(table, axis=0)
    return np.where(counted > 0, total / np.maximum(counted, 1), np.nan)
