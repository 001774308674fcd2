"""How much worse a classifier serves one group than the average: measured on labelled images, no counterfactual.

The groups are the four combinations of target and confounder. Every group counts the same, however many images it has,
so that the numbers are those of group-balanced images and no image is thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cfalign._analysis.statistics import bootstrap_counts, generator, percentile_interval
from cfalign._results import Floats


@dataclass(frozen=True)
class WorstGroupGaps:
    """Of C classifiers of one target on the same images; the groups in the order (1, 1), (1, 0), (0, 1), (0, 0)."""

    accuracies: Floats
    """[4, C] share of images on the right side of 0.5."""
    worst: Floats
    """[C] mean of the four accuracies minus the lowest."""
    worst_drawn: Floats
    """[resample, C] the same, images drawn with replacement within their group; the same images for all C."""
    prediction: Floats
    """[C] mean probability with the confounder minus without, at fixed target (mean of the two)."""
    prediction_drawn: Floats
    """[resample, C]"""

    def interval(self, name: str) -> tuple[Floats, Floats]:
        """95 % interval [C] of ``worst`` or ``prediction``."""
        low, high = percentile_interval(getattr(self, f"{name}_drawn"))
        return low, high


def worst_group_gaps(scores: Sequence[Floats], *, seed: int, name: str, resamples: int = 1000) -> WorstGroupGaps:
    """Gaps from the probabilities [image, C] of each of the four groups, in their order; no group is empty."""
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
    """From the mean probability of each of the four groups."""
    with_target, without_target = means[0] - means[1], means[2] - means[3]
    return np.asarray((with_target + without_target) / 2, dtype=np.float64)
