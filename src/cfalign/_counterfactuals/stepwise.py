"""Counterfactuals by many steps, each along a gradient taken where the last one ended.

A step that carries a row past its aim is a segment with the aim in it: it is searched with decoder forwards alone, so
every method lands within the tolerance. Pixel space is the latent space of an autoencoder that does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cfalign._counterfactuals.batch import Flags, PixelSpace, Rows, Scene, decode, image_change
from cfalign._counterfactuals.gradient import Start, find_rays
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.ray import ROUNDING, Bracket, Found, Probe, State
from cfalign._heads.panel import Weights
from cfalign._heads.scoring import logits
from cfalign._results import Floats, Outcome

HALVING = 20  # steps after which the distance term weighs half as much


SHORTEST = 1 / 8  # of a full step: where even that leads upwards, the score has turned


@runtime_checkable
class Steps(Protocol):
    """The rule by which a method steps; all rows it speaks of are rows of the scene."""

    def propose(self, rows: Rows, excess: Floats, gradient: Tensor, away: Tensor) -> Tensor:
        """Steps [k, *latent] from value − aim [k], ∂value/∂z and z − z0 [k, *latent]."""
        ...

    def refuse(self, rows: Rows, risen: Flags) -> Flags:
        """Which rows do not take the step they proposed, given where the value rose."""
        ...

    def stuck(self, rows: Rows) -> Flags:
        """Which rows have no step left that leads down."""
        ...


class Iterated:
    """Steps of one length against the gradient, shorter where the linear prediction says that the aim is nearer.

    Where a step leads upwards it is taken back and halved, down to an eighth.
    """

    def __init__(self, start: Start, length: float) -> None:
        self.length = length * np.where(start.norm > 0, start.norm, 1.0)
        self.scale = np.ones(len(start.norm))

    def propose(self, rows: Rows, excess: Floats, gradient: Tensor, away: Tensor) -> Tensor:
        """min(length, excess / ‖∂value/∂z‖) against the gradient; back, where the aim was passed."""
        slope = gradient.flatten(1).double().norm(dim=1).cpu().numpy()
        safe = np.where(slope > 0, slope, 1.0)
        bound = self.length[rows] * self.scale[rows]
        return _times(gradient, -np.clip(excess / safe, -bound, bound) / safe)

    def refuse(self, rows: Rows, risen: Flags) -> Flags:
        """Every step that leads upwards."""
        self.scale[rows[risen]] /= 2
        return risen

    def stuck(self, rows: Rows) -> Flags:
        """Rows whose step has been halved too often."""
        return self.scale[rows] < SHORTEST


class Optimised:
    """Gradient descent, or Adam (Kingma and Ba 2015), on the loss of Wachter et al. (2018) in the unit of the value:

    ½((value − aim) / (value0 − aim))² + ½ w ‖z − z0‖² / ‖z0‖²

    A first step has the given length, as a share of ‖z0‖, whatever the scales of latent and classifier.
    """

    def __init__(self, start: Start, aim: Floats, shape: Sequence[int], options: SearchOptions, length: float) -> None:
        n, size = len(start.norm), int(np.prod(shape))
        self.options = options.descent
        self.norm = np.where(start.norm > 0, start.norm, 1.0)
        self.gap = np.where(start.value != aim, start.value - aim, 1.0)
        self.adam = self.options.optimiser == "adam"
        self.rate = length * self.norm / (np.sqrt(size) if self.adam else 1.0)
        self.first, self.taken = np.full(n, np.nan), 0
        self.moments: list[Tensor] = []

    def propose(self, rows: Rows, excess: Floats, gradient: Tensor, away: Tensor) -> Tensor:
        """The next step of the optimiser."""
        weight = self.options.distance_weight * 0.5 ** (self.taken // HALVING)
        self.taken += 1
        slope = _times(gradient, excess / self.gap[rows] ** 2) + _times(away, weight / self.norm[rows] ** 2)
        if self.adam:
            return _times(self._adam(rows, slope), -self.rate[rows])
        length = slope.flatten(1).double().norm(dim=1).cpu().numpy()
        fresh = np.isnan(self.first[rows])
        self.first[rows[fresh]] = np.where(length > 0, length, 1.0)[fresh]
        return _times(slope, -self.rate[rows] / self.first[rows])

    def _adam(self, rows: Rows, slope: Tensor) -> Tensor:
        if not self.moments:
            self.moments = [slope.new_zeros(len(self.norm), *slope.shape[1:]) for _ in range(2)]
        index = torch.from_numpy(rows).to(slope.device)
        corrected = []
        for moment, seen, decay in zip(self.moments, (slope, slope**2), (0.9, 0.999), strict=True):
            moment[index] = decay * moment[index] + (1 - decay) * seen
            corrected.append(moment[index] / (1 - decay**self.taken))
        return corrected[0] / (corrected[1].sqrt() + 1e-12)

    def refuse(self, rows: Rows, risen: Flags) -> Flags:
        """None: an optimiser may go up on its way."""
        return np.zeros_like(risen)

    def stuck(self, rows: Rows) -> Flags:
        """None, until the steps are spent."""
        return np.zeros(len(rows), dtype=bool)


def descend(scene: Scene, options: SearchOptions, *, earlier: tuple[Start, Found] | None = None) -> tuple[Start, Found]:
    """Counterfactuals of every pair by the method that ``options`` name.

    ``earlier``: the ends of another search of the same pairs with a smaller drop, from which this one goes on; a pair
    that is no better off here keeps that end. ``kept`` of the result is (x_λ [pair, c, h, w], z_λ [pair, *latent]).
    BadInput for a black box, BadModel where no gradient flows.
    """
    origin = scene.origin
    if earlier is None:
        rays = find_rays(
            scene.latents, scene.pairs, autoencoder=scene.autoencoder, classifiers=scene.classifiers, batch=scene.batch
        )
        start, at, value = rays.start, origin, rays.start.value
        state = State(start, (scene.before, origin), options)
        gradient = _times(rays.direction, -start.slope)
        state.backwards += 1
        state.end_at_floor()
    else:
        start, found = earlier
        at, value = found.kept[1], found.value
        state = State(start, (scene.before, origin), options)
        state.end_at_floor()
        gradient = _go_on(scene, state, found)
    length = options.descent.step or (0.01 if isinstance(scene.autoencoder, PixelSpace) else 0.05)
    steps: Steps = (
        Iterated(start, length)
        if options.method == "iterated"
        else Optimised(start, state.aim_value, origin.shape[1:], options, length)
    )
    _walk(scene, state, steps, at.clone(), value.copy(), gradient)
    return start, state.found()


def _go_on(scene: Scene, state: State, found: Found) -> Tensor:
    """Take over the ends of the earlier search; gradients there, [pair, *latent]."""
    rows = state.active
    miss, best = state.missed(rows, found.value[rows])
    index = torch.from_numpy(rows)
    probe = Probe(found.value[rows], found.image_change[rows], tuple(k[index.to(k.device)] for k in found.kept))
    state.keep(rows, found.distance[rows], probe, miss <= best)
    met = rows[miss <= state.options.tolerance]
    state.outcome[met] = state.met[met]
    rows = state.active
    gradient = torch.zeros_like(found.kept[1])
    index = torch.from_numpy(rows).to(gradient.device)
    seen = _look(scene, rows, found.kept[1][index], gradient=True)
    state.evaluations[rows] += 1
    state.backwards[rows] += 1
    gradient[index] = seen.gradient
    return gradient


def _walk(scene: Scene, state: State, steps: Steps, at: Tensor, value: Floats, gradient: Tensor) -> None:
    origin, aim, limit = scene.origin, state.aim_value, state.limit
    for _ in range(state.options.descent.max_steps):
        rows = state.active
        if not len(rows):
            return
        index = torch.from_numpy(rows).to(at.device)
        delta = steps.propose(rows, value[rows] - aim[rows], gradient[index], at[index] - origin[index])
        ahead = scene.project(at[index] + delta)
        seen = _look(scene, rows, ahead, gradient=True)
        distance, good = _take(state, rows, seen, ahead, origin[index])
        state.backwards[rows] += 1
        passed = good & (value[rows] > aim[rows]) & (seen.value < aim[rows])
        part = torch.from_numpy(np.flatnonzero(passed)).to(at.device)
        _land(scene, state, rows[passed], (at[index[part]], ahead[part]), (value[rows[passed]], seen.value[passed]))
        refused = steps.refuse(rows, good & ~passed & (seen.value > value[rows] + ROUNDING))
        on = good & ~passed & ~refused
        state.outcome[rows[good & ~passed & steps.stuck(rows)]] = Outcome.TURNED
        state.outcome[rows[on & (seen.slope <= 0)]] = Outcome.TURNED
        state.outcome[rows[on & (distance >= limit[rows])]] = Outcome.LAMBDA_LIMIT
        part = torch.from_numpy(np.flatnonzero(on)).to(at.device)
        at[index[part]], gradient[index[part]] = ahead[part], seen.gradient[part]
        value[rows[on]] = seen.value[on]
    state.outcome[state.active] = Outcome.LAMBDA_LIMIT


def _take(state: State, rows: Rows, seen: _Seen, points: Tensor, origin: Tensor) -> tuple[Floats, Flags]:
    """Count and keep what was seen, end rows that land, leave the allowed change or are not finite; distances from z0,
    and which rows go on.
    """
    allowed = np.inf if state.options.max_image_change is None else state.options.max_image_change
    distance: Floats = (points - origin).flatten(1).double().norm(dim=1).cpu().numpy()
    state.evaluations[rows] += 1
    finite = np.isfinite(seen.value) & np.isfinite(seen.change) & np.isfinite(seen.slope) & np.isfinite(distance)
    state.outcome[rows[~finite]] = Outcome.NOT_FINITE
    inside = finite & (seen.change <= allowed)
    miss, best = state.missed(rows, seen.value)
    state.keep(rows, distance, Probe(seen.value, seen.change, (seen.images, points)), inside & (miss < best))
    met = inside & (miss <= state.options.tolerance)
    state.outcome[rows[met]] = state.met[rows[met]]
    state.outcome[rows[finite & ~inside]] = Outcome.IMAGE_LIMIT
    return distance, inside & ~met


def _land(scene: Scene, state: State, rows: Rows, ends: tuple[Tensor, Tensor], values: tuple[Floats, Floats]) -> None:
    """Search segments [k, *latent] whose first end is above the aim and whose second is below it."""
    aim = state.aim_value[rows]
    bracket = Bracket(values[0] - aim, np.ones(len(rows)))
    every = np.arange(len(rows))
    bracket.update(every, np.ones(len(rows)), values[1] - aim, np.ones(len(rows), dtype=bool))
    origin = scene.origin[torch.from_numpy(rows).to(ends[0].device)]
    for _ in range(state.options.max_evaluations):
        open_ = np.flatnonzero([state.outcome[row] is None for row in rows])
        if not len(open_):
            return
        t = bracket.next(open_)
        index = torch.from_numpy(open_).to(origin.device)
        points = ends[0][index] + _times((ends[1] - ends[0])[index], t)
        seen = _look(scene, rows[open_], points, gradient=False)
        _, good = _take(state, rows[open_], seen, points, origin[index])
        bracket.update(open_[good], t[good], (seen.value - aim[open_])[good], np.ones(int(good.sum()), dtype=bool))
    open_ = np.flatnonzero([state.outcome[row] is None for row in rows])
    state.outcome[rows[open_]] = Outcome.LAMBDA_LIMIT


@dataclass(frozen=True)
class _Seen:
    """Some rows at some points, [k, ...]."""

    value: Floats
    slope: Floats
    """‖∂value/∂z‖; 1 where it was not asked for."""
    gradient: Tensor
    change: Floats
    images: Tensor


def _look(scene: Scene, rows: Rows, points: Tensor, *, gradient: bool) -> _Seen:
    """Decode and score; one decoder forward per row, and one backward if the gradient is wanted."""
    values, gradients, changes, images = [], [], [], []
    for part in torch.arange(len(rows)).split(scene.batch):
        index = torch.from_numpy(rows)[part]
        z = points[part.to(points.device)].detach().requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            x = decode(z, scene.autoencoder)
            value = _weights(scene, index).value(logits(x, scene.classifiers))
        gradients.append(torch.autograd.grad(value.sum(), z)[0] if gradient else torch.ones_like(z[:, :1]))
        owner = scene.pairs.image[index].to(x.device)
        images.append(x.detach())
        changes.append(image_change(scene.reconstructions[owner], images[-1]))
        values.append(value.detach())
    if not values:
        return _Seen(np.zeros(0), np.zeros(0), points, np.zeros(0), scene.before[:0])
    slopes = torch.cat(gradients)
    norms = slopes.flatten(1).double().norm(dim=1).cpu().numpy() if gradient else np.ones(len(rows))
    seen, change = (torch.cat(v).cpu().double().numpy() for v in (values, changes))
    return _Seen(seen, norms, slopes, change, torch.cat(images))


def _weights(scene: Scene, rows: Tensor) -> Weights:
    return scene.pairs.weights[rows]


def _times(rows: Tensor, factors: Floats) -> Tensor:
    """Rows [k, ...] times factors [k]."""
    scale = torch.as_tensor(factors, dtype=rows.dtype, device=rows.device)
    return rows * scale.view(-1, *[1] * (rows.ndim - 1))
