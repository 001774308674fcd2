"""Do two measures put classifiers in the same order? Spearman's rank correlation with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from cfalign._analysis.statistics import generator, percentile_interval
from cfalign._results import Floats
from cfalign.benchmarks.scoring import spearman

RESAMPLES = 2000
LEAST = 3


@dataclass(frozen=True)
class Agreement:
    """Spearman's ρ, averaged over the groups within which the order is looked at; NaN where no group has one."""

    rank: float
    ci_low: float
    """95 % bootstrap interval over classifiers, drawn within their groups."""
    ci_high: float
    n: int
    """Classifiers in groups that have an order."""
    groups: int


def agreement(x: Floats, y: Floats, groups: Sequence[Hashable], *, seed: int) -> Agreement:
    """Of two measures [classifier] within groups (one per classifier).

    Classifiers of which a measure is NaN take no part, nor do groups of fewer than three, or in which a measure is the
    same for all. A resample in which that happens counts without that group.
    """
    known = np.isfinite(x) & np.isfinite(y)
    values, drawn, n = [], [], 0
    for group in dict.fromkeys(groups):
        rows = np.flatnonzero(known & np.array([g == group for g in groups]))
        value = spearman(x[rows][None], y[rows][None])[0] if len(rows) >= LEAST else np.nan
        if np.isnan(value):
            continue
        again = rows[generator(seed, "agreement", str(group)).integers(0, len(rows), size=(RESAMPLES, len(rows)))]
        values.append(value)
        drawn.append(spearman(x[again], y[again]))
        n += len(rows)
    if not values:
        return Agreement(np.nan, np.nan, np.nan, 0, 0)
    table = np.stack(drawn)
    counted = np.isfinite(table).sum(axis=0)
    means = np.where(counted > 0, np.nansum(table, axis=0) / np.maximum(counted, 1), np.nan)
    low, high = percentile_interval(means[:, None])
    return Agreement(float(np.mean(values)), float(low[0]), float(high[0]), n, len(values))
