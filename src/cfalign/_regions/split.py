"""A change of images split by regions: only the region changes, or everything but the region does.

x_r = x0 + m (x' − x0) has the counterfactual's pixels inside the region and the reference image's outside, and x' − m
(x' − x0) the reverse. Pixels outside the region, or inside it, are those of x0 to the bit. Not in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cfalign._analysis.statistics import People, resampled_interval, resampled_sums
from cfalign._findings import RegionShare
from cfalign._heads.panel import Panel
from cfalign._heads.scoring import respond
from cfalign._results import Floats, excludes_zero

RESAMPLES = 2000


@dataclass(frozen=True)
class RegionScores:
    """Panel scores of every composite, [image, region, column]; NaN where an image has no mask."""

    inside: Floats
    """Only the region has changed."""
    rest: Floats
    """Everything but the region has."""


@torch.no_grad()
def region_scores(before: Tensor, after: Tensor, masks: Tensor, panel: Panel, *, batch: int) -> RegionScores:
    """Score both composites of images ``before`` and ``after`` [image, c, h, w] for masks [image, region, h, w]."""
    count, regions = masks.shape[:2]
    known = ~masks.isnan().flatten(2).any(dim=2)
    found = np.full((2, count, regions, len(panel.labels)), np.nan)
    size = max(1, batch // (2 * regions))
    for at in range(0, count, size):
        rows = slice(at, at + size)
        pair = (before[rows, None], after[rows, None])
        m = torch.nan_to_num(masks[rows])[:, :, None].to(before)
        for side, composite in enumerate((composed(*pair, m), composed(*pair, 1 - m))):
            flat = composite.flatten(0, 1)
            scores = panel.scores(respond(flat, panel.classifiers, batch=batch))
            found[side, rows] = scores.reshape(len(composite), regions, -1)
    found[:, ~known.cpu().numpy()] = np.nan
    return RegionScores(found[0], found[1])


def composed(before: Tensor, after: Tensor, mask: Tensor) -> Tensor:
    """``after`` where the mask is 1 and ``before`` where it is 0, to the bit; between them where it is between."""
    mixed = before + mask * (after - before)
    return torch.where(mask == 0, before, torch.where(mask == 1, after, mixed))


def shares(
    audited: str,
    attribute: str,
    regions: Sequence[str],
    *,
    own: Floats,
    whole: Floats,
    inside: Floats,
    rest: Floats,
    people: People | None,
    rng: np.random.Generator,
) -> list[RegionShare]:
    """The shares of every region, with intervals over images.

    Args:
        audited: whose score changes.
        attribute: whose counterfactuals they are.
        regions: names.
        own: change of the attribute's own score, [image].
        whole: change of the audited score, [image].
        inside, rest: change of it on both composites, [image, region]; NaN where an image has no mask.
        people: a number for the group of each image.
        rng: draws the resamples.
    """
    found = []
    columns = np.column_stack([own, whole])
    for number, region in enumerate(regions):
        both = np.column_stack([columns, inside[:, number], whole - rest[:, number]])
        known = np.isfinite(both).all(axis=1)
        who = None if people is None else people[known]
        found.append(_share(audited, attribute, region, both[known], who, rng))
    return found


def _share(
    audited: str, attribute: str, region: str, values: Floats, people: People | None, rng: np.random.Generator
) -> RegionShare:
    """``values``: own, whole, inside and lost, [image, 4]."""
    point, low, high = np.full((3, 3), np.nan)
    if len(values) > 1 and values[:, 0].sum():
        point = _ratios(values.sum(axis=0)[None])[0]
        sums, _ = resampled_sums(values, resamples=RESAMPLES, rng=rng, people=people)
        low, high = resampled_interval(_ratios(sums), point, people)
        if not excludes_zero(float(low[0]), float(high[0])):
            point[1:], low[1:], high[1:] = np.nan, np.nan, np.nan
    return RegionShare(
        audited=audited,
        attribute=attribute,
        region=region,
        whole=float(point[0]),
        whole_low=float(low[0]),
        whole_high=float(high[0]),
        inside=float(point[1]),
        inside_low=float(low[1]),
        inside_high=float(high[1]),
        lost=float(point[2]),
        lost_low=float(low[2]),
        lost_high=float(high[2]),
        n=len(values),
    )


def _ratios(sums: Floats) -> Floats:
    """whole / own, inside / whole and lost / whole of sums [row, 4], [row, 3]."""
    own, whole, inside, lost = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.column_stack([whole / own, inside / whole, lost / whole])
