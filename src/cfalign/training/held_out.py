"""Quality on held-out images: PSNR of an autoencoder, AUROC of a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfalign._analysis.statistics import auroc, weighted_auroc
from cfalign._results import Floats

_LEAST_ERROR = 1e-10  # 100 dB: a perfect image has no finite PSNR
_AT_ONCE = 50


@dataclass(frozen=True)
class TargetAuroc:
    """AUROC of one head on the held-out images."""

    target: str
    auroc: float
    """In [0, 1], 0.5 is chance; NaN where there is no positive or no negative."""
    positives: int
    """Held-out images with a label above 0.5."""
    negatives: int
    """Held-out images with a label of at most 0.5."""
    reason: str | None
    """Why ``auroc`` is NaN; None where it is a number."""


@dataclass(frozen=True)
class MeanAuroc:
    """Mean over the targets that have one, with a 95 % bootstrap interval over images; NaN when none has."""

    mean: float
    ci_low: float
    ci_high: float


def psnr(squared_errors: Floats) -> Floats:
    """Mean squared error of each image (values in [0, 1]) to peak signal-to-noise ratio in dB, at most 100."""
    result: Floats = -10 * np.log10(np.maximum(squared_errors, _LEAST_ERROR))
    return result


def aurocs(scores: Floats, labels: Floats, targets: tuple[str, ...]) -> tuple[TargetAuroc, ...]:
    """One entry per column of scores and labels [image, target]."""
    found = []
    for column, target in enumerate(targets):
        p, n = int((labels[:, column] > 0.5).sum()), int((labels[:, column] <= 0.5).sum())
        missing = [name for name, count in (("positive", p), ("negative", n)) if count == 0]
        reason = f"no {' and no '.join(missing)} among the held-out images" if missing else None
        found.append(TargetAuroc(target, auroc(scores[:, column], labels[:, column]), p, n, reason))
    return tuple(found)


def mean_auroc(scores: Floats, labels: Floats, *, seed: int, resamples: int = 1000) -> MeanAuroc:
    """Mean over targets; in a resample, targets that lost a class do not count."""
    images, targets = labels.shape
    points = np.array([auroc(scores[:, t], labels[:, t]) for t in range(targets)])
    defined = np.flatnonzero(np.isfinite(points))
    if len(defined) == 0:
        return MeanAuroc(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    means: list[Floats] = []
    for start in range(0, resamples, _AT_ONCE):
        weights = rng.multinomial(images, np.full(images, 1 / images), size=min(_AT_ONCE, resamples - start))
        each = np.stack([weighted_auroc(scores[:, t], labels[:, t], weights.astype(np.float64)) for t in defined])
        count = np.isfinite(each).sum(0)
        means.append(np.nansum(each, 0)[count > 0] / count[count > 0])
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return MeanAuroc(float(points[defined].mean()), float(low), float(high))
