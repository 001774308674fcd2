"""Counterfactuals by completion: a region is left out of an image, and what images of its kind have there is put in.

The model of the images is Gaussian, x = mean + W S u + noise, with u standard normal and W, S the principal components
of images. Given the pixels outside a region, the posterior mean of u completes the image:

    u = argmin ‖(1 − M) (x − mean − W S u)‖² / noise² + ‖u‖²

The region is the smallest rectangle, with soft edges, whose completion switches the base off. It is searched with
forward passes alone, so a base may be a black box. The counterfactuals of a pair lie on the straight line from the
image to its completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from cfalign._counterfactuals.batch import Batch, float64, norms, times
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
ROUNDS, TRIES = 4, 8
"""Rounds of changes to the best rectangle, and changes in each."""
SPREAD, NARROWER = 0.08, 0.7
"""Standard deviation of the first changes, and what it is multiplied with from round to round."""
_ROWS = 128  # completions at once
_TOUCHED = 1e-3  # of a soft region, below which a pixel is outside


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

    One image may have many regions. ``steps`` of preconditioned conjugate gradients on what the regions take away, so
    that small regions, and those that lie together, cost little.
    """
    known = components.to(images)
    w, s, inside = _within(regions, known, images.shape)
    gone = _gone(regions, images.shape[1])[:, inside]
    r = _evidence(images, known, w, gone, inside)
    scale = 1 / (1 + (s / NOISE) ** 2)

    def curvature(u: Tensor) -> Tensor:
        return u / scale - (((u * s) @ w.T * gone) @ w) * s / NOISE**2

    u, p = torch.zeros_like(r), r * scale
    fit = (r * p).sum(dim=1, keepdim=True)
    for _ in range(steps):
        q = curvature(p)
        step = fit / (p * q).sum(dim=1, keepdim=True).clamp_min(1e-30)
        u, r = u + step * p, r - step * q
        z = r * scale
        further = (r * z).sum(dim=1, keepdim=True)
        p, fit = z + further / fit.clamp_min(1e-30) * p, further
    return _filled(images, regions, known, u, w, inside)


@dataclass(frozen=True)
class _Solved:
    """One region, solved once for all images."""

    region: Tensor
    """[1, 1, h, w]"""
    inside: Tensor
    factor: Tensor
    """Cholesky factor of the normal equations, [component, component]."""


_KNOWN: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""By the directions of components: the solved first boxes, by shape of the images."""


def _first_solved(components: Components, shape: tuple[int, ...]) -> list[_Solved]:
    """Every first box, for images of one shape; solved once for all images, and kept with the components."""
    directions = components.directions
    known = _KNOWN.setdefault(directions, {})
    key = (shape, directions._version)
    if key not in known:
        known.clear()
        known[key] = _solved(components, shape)
    found: list[_Solved] = known[key]
    return found


def _solved(components: Components, shape: tuple[int, ...]) -> list[_Solved]:
    solved = []
    for box in first_boxes().to(components.mean):
        region = rectangles(box[None], *shape[-2:])
        w, s, inside = _within(region, components, shape)
        gone = _gone(region, shape[-3])[0, inside]
        curved = torch.diag(1 + (s / NOISE) ** 2) - s[:, None] * (w.T @ (gone[:, None] * w)) * s / NOISE**2
        solved.append(_Solved(region, inside, torch.linalg.cholesky(curved)))
    return solved


def _complete_at(images: Tensor, one: _Solved, known: Components) -> Tensor:
    """``complete`` for one region that is solved."""
    w = known.directions[one.inside]
    gone = _gone(one.region, images.shape[1])[:, one.inside]
    r = _evidence(images, known, w, gone, one.inside)
    u = torch.cholesky_solve(r.T, one.factor).T
    return _filled(images, one.region, known, u, w, one.inside)


def _within(regions: Tensor, known: Components, shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Directions inside the regions [value, component], deviations, and which values of an image these are."""
    touched = (regions > _TOUCHED).any(dim=0).expand(*shape[-3:]).flatten()
    inside = touched.nonzero()[:, 0]
    return known.directions[inside], known.deviations, inside


def _gone(regions: Tensor, channels: int) -> Tensor:
    """Share of the evidence that the regions take away, [n, value]."""
    return (1 - (1 - regions) ** 2).expand(-1, channels, -1, -1).flatten(1)


def _evidence(images: Tensor, known: Components, w: Tensor, gone: Tensor, inside: Tensor) -> Tensor:
    """Right-hand side of the normal equations, [n, component]."""
    away = images.flatten(1) - known.mean
    return (away @ known.directions - (away[:, inside] * gone) @ w) * known.deviations / NOISE**2


def _filled(images: Tensor, regions: Tensor, known: Components, u: Tensor, w: Tensor, inside: Tensor) -> Tensor:
    """Images with the components u [n, component] inside the regions."""
    flat = images.flatten(1).expand(len(u), -1).clone()
    share = regions.expand(-1, images.shape[1], -1, -1).flatten(1)[:, inside]
    drawn = ((u * known.deviations) @ w.T + known.mean[inside]).clamp(0, 1)
    flat[:, inside] += share * (drawn - flat[:, inside])
    return flat.view(-1, *images.shape[1:])


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
    count = len(batch.pairs)
    if count:
        _fitting(batch.before, components)
    start = _start(batch, float64(batch.evaluate(np.arange(count), batch.before).values))
    goal = State(start, (), replace(aim, drop=DROP, floor=min(aim.floor, FLOOR))).aim_value
    gap = np.where(start.value > goal, start.value - goal, 1.0)

    def cost(values: Floats, areas: Floats) -> Floats:
        """Of pairs [pair] or of several boxes of each [pair, box]."""
        wide = (slice(None), *[None] * (values.ndim - 1))
        missed = np.maximum(values - goal[wide], 0) / gap[wide]
        return np.asarray(np.where(np.isfinite(values), missed + AREA * areas, np.inf))

    known = components.to(batch.before)
    first = first_boxes().to(batch.before)
    costs = cost(*_seen_first(batch, known))
    best, least = first[torch.from_numpy(costs.argmin(axis=1))], costs.min(axis=1)
    for changes in _changes().to(batch.before):
        boxes = _changed(best[:, None], changes)
        _, values, areas = _seen(batch, boxes, known)
        costs = cost(values, areas)
        chosen = boxes[torch.arange(count), torch.from_numpy(costs.argmin(axis=1))]
        better = costs.min(axis=1) < least
        best = torch.where(torch.from_numpy(better)[:, None].to(chosen.device), chosen, best)
        least = np.minimum(least, costs.min(axis=1))
    images, values, _ = _seen(batch, best[:, None], known, keep=True)
    return Regions(float64(best), images, values[:, 0], looks=len(first) + ROUNDS * TRIES + 1)


def _seen_first(batch: Batch, known: Components) -> tuple[Floats, Floats]:
    """Values of the bases on completions at the first boxes, and the areas of these, [pair, box] each.

    An image is completed once for all of its bases.
    """
    owners, place = batch.pairs.image.unique(return_inverse=True)
    x = batch.origins.images[owners.to(batch.origins.images.device)]
    every = np.arange(len(batch.pairs))
    solved = _first_solved(known, tuple(x.shape[1:])) if len(x) else []
    values = np.zeros((len(every), len(first_boxes())))
    for at, one in enumerate(solved):
        completed = _complete_at(x, one, known)
        values[:, at] = float64(batch.evaluate(every, completed[place.to(completed.device)]).values)
    areas = np.array([float(one.region.mean()) for one in solved]).reshape(1, -1)
    return values, np.broadcast_to(areas, values.shape) if len(x) else values


def _seen(batch: Batch, boxes: Tensor, known: Components, *, keep: bool = False) -> tuple[Tensor, Floats, Floats]:
    """Completions of every pair at its boxes [pair, box, 4], the values of its base there, and the areas.

    Images [pair · box, c, h, w], no rows unless they are to be kept; the rest is [pair, box].
    """
    count, tries = boxes.shape[:2]
    before = batch.before
    kept: list[Tensor] = [before[:0]]
    values, areas = np.zeros((2, count, tries))
    step = max(1, _ROWS // tries)
    for at in range(0, count, step):
        pairs = np.arange(at, min(at + step, count))
        made = []
        for pair in pairs:
            x = before[pair : pair + 1]
            regions = rectangles(boxes[pair], *x.shape[-2:])
            areas[pair] = float64(regions.mean(dim=(1, 2, 3)))
            made.append(complete(x, regions, known))
        images = torch.cat(made)
        values[pairs] = float64(batch.evaluate(pairs.repeat(tries), images).values).reshape(-1, tries)
        kept += [images] if keep else []
    return torch.cat(kept), values, areas


@torch.no_grad()
def completed_elsewhere(
    images: Tensor, boxes: Floats, places: Floats, shares: Floats, components: Components
) -> Tensor:
    """Images [n, c, h, w] on the way, by ``shares`` [n] of it, to completions of regions that lie elsewhere.

    These are as large as ``boxes`` [n, 4] and lie at ``places`` [n, 2], in [0, 1], of where they may lie inside the
    image: the control of a completion.
    """
    size = boxes[:, 2:]
    moved = torch.from_numpy(np.concatenate([places * (1 - size), size], axis=1)).to(images)
    known = components.to(images)
    made = [images[:0]]
    for i, share in enumerate(shares.tolist()):
        x = images[i : i + 1]
        made.append(x + share * (complete(x, rectangles(moved[i : i + 1], *x.shape[-2:]), known) - x))
    return torch.cat(made)


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
