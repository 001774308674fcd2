"""Counterfactuals by completion: a region is left out of an image, and what images of its kind have there is put in.

The model of the images is Gaussian, x = mean + W S u + noise, with u standard normal and W, S the principal components
of images. Given the pixels outside a region, the posterior mean of u completes the image:

    u = argmin ‖(1 − M) (x − mean − W S u)‖² / noise² + ‖u‖²

The region is the smallest rectangle, with soft edges, whose completion switches the base off. It is searched with
forward passes alone, so a base may be a black box. The counterfactuals of a pair lie on the straight line from the
image to its completion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from cfalign._counterfactuals.batch import Batch, Rows, float64, norms, times
from cfalign._counterfactuals.gradient import Rays, Start
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.ray import State
from cfalign._errors import BadInput
from cfalign._models.components import Components
from cfalign._results import Floats
from cfalign._types import Autoencoder

NOISE = 0.2
"""Standard deviation of a pixel that the components do not explain. A smaller one trusts the edge of the region too
much and draws faces that nobody has."""
SOLVING = 12
"""Steps of conjugate gradients."""
EDGE = 1 / 64
"""Softness of the rectangle's edges, as a share of the side."""
AREA = 0.5
"""Weight of the region's area, as a share of the image, beside the share of the way to the aim that is missed."""
DROP, FLOOR = 10.0, 0.02
"""The region is chosen for a score of 0.02, whatever the aim: half a pair of glasses lowers a score already."""
SHAPES = ((0.7, 0.25), (0.5, 0.25), (0.5, 0.45), (0.8, 0.45), (0.3, 0.3), (0.95, 0.35), (0.6, 0.7))
"""Width and height of the first rectangles, as shares of the sides; they stand an eighth of the height apart."""
ROUNDS, TRIES = 4, 12
"""Rounds of changes to the best rectangle, and changes in each."""
SPREAD, NARROWER = 0.08, 0.7
"""Standard deviation of the first changes, and what it is multiplied with from round to round."""
_ROWS = 128  # completions at once


@dataclass(frozen=True)
class Regions:
    """The region of every pair, and the image with the region completed."""

    boxes: Floats
    """Left, top, width and height as shares of the sides, [pair, 4]; a box may reach beyond the image."""
    images: Tensor
    """[pair, c, h, w]"""
    values: Floats
    """Value of the base there, [pair]."""
    looks: int
    """Regions that were tried for each pair."""


def pictures_of(autoencoder: Autoencoder) -> Components:
    """The principal components of images that an autoencoder knows. Raises BadInput where it knows none."""
    found: Components | None = getattr(autoencoder, "pictures", None)
    if found is None:
        name = getattr(autoencoder, "name", type(autoencoder).__name__)
        raise BadInput(
            f"The method completion needs the principal components of images, and autoencoder {name!r} knows none: "
            "give one from `cfalign train autoencoder`, or let images tell them (autoencoders.informed)."
        )
    return found


def _fitting(images: Tensor, components: Components) -> None:
    if images[0].numel() != len(components.mean):
        raise BadInput(
            f"The principal components are those of images with {len(components.mean)} values, but the images have "
            f"shape {list(images.shape[1:])}; give images of the size that the autoencoder was trained on."
        )


@torch.no_grad()
def complete(images: Tensor, regions: Tensor, components: Components, *, steps: int = SOLVING) -> Tensor:
    """Images [n, c, h, w] whose regions [n, 1, h, w], in [0, 1], hold the posterior mean given all else.

    ``steps`` of preconditioned conjugate gradients; the few that suffice keep weak components near the mean.
    """
    known = components.to(images)
    w, s = known.directions, known.deviations
    trust = ((1 - regions).expand_as(images).flatten(1) / NOISE) ** 2

    def curvature(u: Tensor) -> Tensor:
        return u + (((u * s) @ w.T * trust) @ w) * s

    r = (((images.flatten(1) - known.mean) * trust) @ w) * s
    scale = 1 / (1 + (s / NOISE) ** 2)
    u, p = torch.zeros_like(r), r * scale
    fit = (r * p).sum(dim=1, keepdim=True)
    for _ in range(steps):
        q = curvature(p)
        step = fit / (p * q).sum(dim=1, keepdim=True).clamp_min(1e-30)
        u, r = u + step * p, r - step * q
        z = r * scale
        further = (r * z).sum(dim=1, keepdim=True)
        p, fit = z + further / fit.clamp_min(1e-30) * p, further
    filled = (known.away(u) + known.mean).view_as(images).clamp(0, 1)
    return images + regions * (filled - images)


def rectangles(boxes: Tensor, height: int, width: int) -> Tensor:
    """Soft rectangles [n, 1, h, w] of boxes [n, 4]: left, top, width, height as shares of the sides."""
    across, down = (_soft(boxes[:, i], boxes[:, i + 2], n) for i, n in ((0, width), (1, height)))
    return (down[:, :, None] * across[:, None, :])[:, None]


def _soft(start: Tensor, length: Tensor, pixels: int) -> Tensor:
    """1 inside an interval, 0 outside, [n, pixels]."""
    places = (torch.arange(pixels, dtype=start.dtype, device=start.device) + 0.5) / pixels
    inside = length[:, None] / 2 - (places - (start + length / 2)[:, None]).abs()
    return torch.sigmoid(inside / EDGE)


@cache
def first_boxes() -> Tensor:
    """Boxes of every shape all over the image, [box, 4]."""
    boxes = []
    for width, height in SHAPES:
        lefts = [0.5 - width / 2] if width > 0.6 else [0.35 - width / 2, 0.5 - width / 2, 0.65 - width / 2]
        tops = np.linspace(0, 1 - height, max(2, round(8 * (1 - height)) + 1))
        boxes += [(left, float(top), width, height) for left in lefts for top in tops]
    return torch.tensor(boxes)


@cache
def _changes() -> Tensor:
    """Changes of centre and size, the same for every pair, [round, try, 4]."""
    drawn = torch.randn(ROUNDS, TRIES, 4, generator=torch.Generator().manual_seed(0))
    narrower = SPREAD * NARROWER ** torch.arange(ROUNDS)
    return drawn * narrower[:, None, None] * torch.tensor([1.0, 1.0, 1.5, 1.5])


def _changed(boxes: Tensor, changes: Tensor) -> Tensor:
    """Boxes [n, 1, 4] about other centres and of other sizes, [n, change, 4]."""
    size = (boxes[..., 2:] + changes[:, 2:]).clamp(0.1, 1.0)
    centre = (boxes[..., :2] + boxes[..., 2:] / 2 + changes[:, :2]).clamp(0.05, 0.95)
    return torch.cat([centre - size / 2, size], dim=-1)


@torch.no_grad()
def find_regions(batch: Batch, aim: SearchOptions, components: Components) -> Regions:
    """The smallest region of every pair whose completion brings its base to the aim, or nearest to it.

    ``batch``: pairs whose images are their own latents.
    """
    x, count = batch.before, len(batch.pairs)
    if count:
        _fitting(x, components)
    start = _start(batch, float64(batch.evaluate(np.arange(count), x).values))
    goal = State(start, (), replace(aim, drop=DROP, floor=min(aim.floor, FLOOR))).aim_value
    gap = np.where(start.value > goal, start.value - goal, 1.0)

    def tried(boxes: Tensor) -> Floats:
        """What boxes [pair, box, 4] cost, [pair, box]."""
        rows = np.repeat(np.arange(count), boxes.shape[1])
        parts = [_seen(batch, r, b, components) for r, b in _parts(rows, boxes.flatten(0, 1))]
        values, areas = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
        missed = np.maximum(values - goal[rows], 0) / gap[rows]
        cost = np.where(np.isfinite(values), missed + AREA * areas, np.inf)
        return np.asarray(cost.reshape(count, -1), dtype=np.float64)

    first = first_boxes().to(x)
    costs = tried(first.expand(count, -1, -1))
    best, least = first[torch.from_numpy(costs.argmin(axis=1))], costs.min(axis=1)
    for changes in _changes().to(x):
        boxes = _changed(best[:, None], changes)
        costs = tried(boxes)
        chosen = boxes[torch.arange(count), torch.from_numpy(costs.argmin(axis=1))]
        better = costs.min(axis=1) < least
        best = torch.where(torch.from_numpy(better)[:, None].to(x.device), chosen, best)
        least = np.minimum(least, costs.min(axis=1))
    parts = [_seen(batch, r, b, components) for r, b in _parts(np.arange(count), best)]
    images, values = torch.cat([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    return Regions(float64(best), images, values, looks=len(first) + ROUNDS * TRIES + 1)


def _parts(rows: Rows, boxes: Tensor) -> Iterator[tuple[Rows, Tensor]]:
    for at in range(0, len(rows), _ROWS):
        yield rows[at : at + _ROWS], boxes[at : at + _ROWS]


def _seen(batch: Batch, rows: Rows, boxes: Tensor, components: Components) -> tuple[Tensor, Floats, Floats]:
    """Completions of some pairs, the values of their bases there, and the areas of the regions, [k, ...]."""
    x = batch.before[torch.from_numpy(rows).to(boxes.device)]
    regions = rectangles(boxes, *x.shape[-2:])
    images = complete(x, regions, components)
    return images, float64(batch.evaluate(rows, images).values), float64(regions.mean(dim=(1, 2, 3)))


def _start(batch: Batch, values: Floats) -> Start:
    norm = norms(batch.before)
    return Start(values, np.ones_like(values), batch.pairs.weights.on_logit.numpy(), norm, norm)


def rays_to_completions(batch: Batch, aim: SearchOptions, components: Components) -> tuple[Rays, Regions]:
    """The line from every image to its completion, as a ray in pixels that ends there.

    A slope is that of the whole line, so that a search begins with a good guess; it is 0 where the completion does not
    lower the base.
    """
    found = find_regions(batch, aim, components)
    start = _start(batch, float64(batch.evaluate(np.arange(len(batch.pairs)), batch.before).values))
    away = found.images - batch.before
    reach = norms(away)
    safe = np.where(reach > 0, reach, 1.0)
    slope = np.maximum(start.value - found.values, 0.0) / safe
    return Rays(replace(start, slope=slope, reach=reach), times(away, 1 / safe), backwards=0), found
