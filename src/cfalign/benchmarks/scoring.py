"""How well a number tells what is used from what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

from cfalign.results import Floats


def auroc(score: Floats, positive: Floats | Any) -> float:
    """Area under the ROC curve by ranks; NaN without both kinds."""
    positive = np.asarray(positive, dtype=bool)
    p = int(np.count_nonzero(positive))
    n = len(positive) - p
    if not p or not n or np.isnan(score).any():
        return float("nan")
    return float((rankdata(score)[positive].sum() - p * (p + 1) / 2) / (p * n))


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


def spearman(estimate: Floats, truth: Floats) -> float:
    """NaN where one of them does not vary."""
    return pearson(rankdata(estimate), rankdata(truth))


def rmse(estimate: Floats, truth: Floats) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((estimate - truth) ** 2)))
