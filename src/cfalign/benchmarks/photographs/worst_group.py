"""Worst-group gaps: how far the worst group's accuracy is below the mean, on labelled images without counterfactuals.

The groups are the four combinations of target and confounder. Every group has the same weight, so the numbers are those
of group-balanced images, and no image is discarded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cfalign._analysis.statistics import bootstrap_counts, generator, percentile_interval
from cfalign._results import Floats


@dataclass(frozen=True)
class WorstGroupGaps:
    """Gaps of C classifiers of one target on the same images; groups in the order (1, 1), (1, 0), (0, 1), (0, 0)."""

    accuracies: Floats
    """[4, C] Share of images on the right side of 0.5."""
    worst: Floats
    """[C] Mean of the four accuracies minus the lowest."""
    worst_drawn: Floats
    """[resample, C] The same on images drawn with replacement within their group, the same ones for all C."""
    prediction: Floats
    """[C] Mean probability with the confounder minus without, at fixed target; mean over both values of the target."""
    prediction_drawn: Floats
    """[resample, C] The same on the drawn images."""

    def interval(self, name: str) -> tuple[Floats, Floats]:
        """95 % interval [C] of ``worst`` or ``prediction``."""
        low, high = percentile_interval(getattr(self, f"{name}_drawn"))
        return low, high


def worst_group_gaps(scores: Sequence[Floats], *, seed: int, name: str, resamples: int = 1000) -> WorstGroupGaps:
    """Gaps from ``scores``, the probabilities [image, C] of each of the four groups; no group may be empty."""
    accuracies, means, drawn_accuracies, drawn_means = [], [], [], []
    for number, p in enumerate(scores):
        has_target = number < 2
        right = ((p >= 0.5) == has_target).astype(np.float64)
        rng = generator(seed, "gaps", name, str(number))
        counts = bootstrap_counts(len(p), resamples=resamples, rng=rng) / len(p)
        accuracies.append(right.mean(axis=0))
        means.append(p.mean(axis=0))
        drawn_accuracies.append(counts @ right)
        drawn_means.append(counts @ p)
    table, drawn = np.stack(accuracies), np.stack(drawn_accuracies)
    return WorstGroupGaps(
        accuracies=table,
        worst=table.mean(axis=0) - table.min(axis=0),
        worst_drawn=drawn.mean(axis=0) - drawn.min(axis=0),
        prediction=_prediction_gap(means),
        prediction_drawn=_prediction_gap(drawn_means),
    )


def _prediction_gap(means: Sequence[Floats]) -> Floats:
    """The prediction gap from the mean probabilities of the four groups."""
    with_target, without_target = means[0] - means[1], means[2] - means[3]
    return np.asarray((with_target + without_target) / 2, dtype=np.float64)
