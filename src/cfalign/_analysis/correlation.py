"""Pearson's correlation of two columns, with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import pearsonr

from cfalign._results import Floats

LEAST = 4
"""Images below which there is no interval, and so no correlation."""
_STILL = 1e-10
"""Of the largest value: a column that moves by less does not vary."""


@dataclass(frozen=True)
class Correlation:
    """r of the images on which both columns are known; NaN where one does not vary or fewer than 4 are known."""

    r: float
    ci_low: float
    ci_high: float
    """95 % interval by Fisher's z."""
    n: int
    """Images on which both are known."""


def correlation(one: Floats, other: Floats) -> Correlation:
    """Of two columns [image], NaN where unknown.

    >>> correlation(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0, 3.0])).r
    1.0
    """
    known = np.isfinite(one) & np.isfinite(other)
    a, b, n = one[known], other[known], int(known.sum())
    if n < LEAST or not (_varies(a) and _varies(b)):
        return Correlation(math.nan, math.nan, math.nan, n)
    found = pearsonr(a, b)
    low, high = map(float, found.confidence_interval(0.95))
    return Correlation(float(found.statistic), low, high, n)


def _varies(column: Floats) -> bool:
    return bool(np.ptp(column) > _STILL * np.abs(column).max())


@dataclass(frozen=True)
class LabelCorrelation:
    """The correlation of two labels over the images of a run; a row of ``label_correlations.csv``."""

    first: str
    second: str
    r: float
    ci_low: float
    ci_high: float
    n: int

    @property
    def correlation(self) -> Correlation:
        """Without its names."""
        return Correlation(self.r, self.ci_low, self.ci_high, self.n)
