"""How well a number tells what is used from what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from cfalign._results import Floats


def average_precision(score: Floats, positive: Floats | Any) -> float:
    """Mean precision at every positive, ties in the given order; NaN without positives."""
    positive = np.asarray(positive, dtype=bool)[np.argsort(-score, kind="stable")]
    if not positive.any():
        return float("nan")
    precision = np.cumsum(positive) / np.arange(1, len(positive) + 1)
    return float(precision[positive].mean())


def pearson(estimate: Floats, truth: Floats) -> float:
    """NaN where one of them does not vary."""
    if len(truth) < 3 or np.ptp(estimate) == 0 or np.ptp(truth) == 0:
        return float("nan")
    return float(np.corrcoef(estimate, truth)[0, 1])


def spearman(x: Floats, y: Floats) -> Floats:
    """Rank correlation along the last axis, ties with their mean rank; NaN where a side does not vary."""
    a, b = (rankdata(v, axis=-1) for v in (x, y))
    a, b = (v - v.mean(axis=-1, keepdims=True) for v in (a, b))
    scale = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.asarray(np.where(scale > 0, (a * b).sum(axis=-1) / np.where(scale > 0, scale, 1.0), np.nan))


def rmse(estimate: Floats, truth: Floats) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((estimate - truth) ** 2)))
