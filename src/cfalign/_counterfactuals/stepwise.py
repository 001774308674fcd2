"""Counterfactuals by many steps, each along a gradient taken where the last one ended.

A step that carries a pair past its aim is a segment with the aim in it: it is searched with decoder forwards alone, so
every method lands within the tolerance. Pixel space is the latent space of an autoencoder that does nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cfalign._counterfactuals.batch import Batch, Flags, PixelSpace, Rows, float64, norms, times
from cfalign._counterfactuals.bracket import ROUNDING, Bracket
from cfalign._counterfactuals.gradient import Start, find_rays
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.ray import Ends, Probe, State
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
        slope = norms(gradient)
        safe = np.where(slope > 0, slope, 1.0)
        bound = self.length[rows] * self.scale[rows]
        return times(gradient, -np.clip(excess / safe, -bound, bound) / safe)

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

    def __init__(self, start: Start, aim: Floats, latents: Tensor, options: SearchOptions, length: float) -> None:
        self.options = options.descent
        self.norm = np.where(start.norm > 0, start.norm, 1.0)
        self.gap = np.where(start.value != aim, start.value - aim, 1.0)
        self.taken = 0
        self.step = torch.zeros_like(latents).requires_grad_(True)
        self.adam = self.options.optimiser == "adam"
        self.optimiser: torch.optim.Optimizer = (
            torch.optim.Adam([self.step], lr=1.0, eps=1e-12) if self.adam else torch.optim.SGD([self.step], lr=1.0)
        )
        self.scale = length * self.norm / (np.sqrt(latents[0].numel()) if self.adam else 1.0)
        """What a step of the optimiser, at rate 1, is multiplied with, [pair]."""

    def propose(self, rows: Rows, excess: Floats, gradient: Tensor, away: Tensor) -> Tensor:
        """The next step of the optimiser."""
        weight = self.options.distance_weight * 0.5 ** (self.taken // HALVING)
        slope = times(gradient, excess / self.gap[rows] ** 2) + times(away, weight / self.norm[rows] ** 2)
        if not self.adam and self.taken == 0:
            length = norms(slope)
            self.scale[rows] /= np.where(length > 0, length, 1.0)
        self.taken += 1
        return times(self._stepped(torch.from_numpy(rows).to(slope.device), slope), self.scale[rows])

    @torch.no_grad()
    def _stepped(self, index: Tensor, slope: Tensor) -> Tensor:
        """The optimiser's step from the origin; its state knows the slopes before."""
        self.step.zero_()
        self.step.grad = torch.zeros_like(self.step)
        self.step.grad[index] = slope
        self.optimiser.step()
        return self.step[index]

    def refuse(self, rows: Rows, risen: Flags) -> Flags:
        """None: an optimiser may go up on its way."""
        return np.zeros_like(risen)

    def stuck(self, rows: Rows) -> Flags:
        """None, until the steps are spent."""
        return np.zeros(len(rows), dtype=bool)


def descend(batch: Batch, aim: SearchOptions, *, earlier: tuple[Start, Ends] | None = None) -> tuple[Start, Ends]:
    """Counterfactuals of every pair by the method that ``aim`` names.

    ``earlier``: the ends of another search of the same pairs with a smaller drop, from which this one goes on; a pair
    that is no better off here keeps that end. ``kept`` of the result is (x_λ [pair, c, h, w], z_λ [pair, *latent]).
    Raises BadInput for a black box, BadModel where no gradient flows.
    """
    origin = batch.origin
    kept = (batch.before, origin)
    if earlier is None:
        rays = find_rays(batch)
        start, at, value = rays.start, origin, rays.start.value
        state = State(start, kept, aim)
        gradient = times(rays.direction, -start.slope)
        state.backwards += 1
        state.end_at_floor()
    else:
        start, ends = earlier
        at, value = ends.kept[1], ends.value
        state = State(start, kept, aim)
        state.end_at_floor()
        gradient = _go_on(batch, state, ends)
    steps = _steps(batch, state, origin)
    _walk(batch, state, steps, at.clone(), value.copy(), gradient)
    return start, replace(state.ends(), lambdas=np.full(len(batch.pairs), np.nan))


def _steps(batch: Batch, state: State, origin: Tensor) -> Steps:
    options = state.options
    length = options.descent.step or (0.01 if isinstance(batch.models.autoencoder, PixelSpace) else 0.05)
    if options.method == "iterated":
        return Iterated(state.start, length)
    return Optimised(state.start, state.aim_value, origin, options, length)


def _go_on(batch: Batch, state: State, ends: Ends) -> Tensor:
    """Take over the ends of the earlier search; gradients there, [pair, *latent]."""
    rows = state.active
    miss, best = state.missed(rows, ends.value[rows])
    index = torch.from_numpy(rows)
    kept = tuple(k[index.to(k.device)] for k in ends.kept)
    probe = Probe(ends.value[rows], ends.image_change[rows], kept)
    state.keep(rows, ends.distances[rows], probe, miss <= best)
    met = rows[miss <= state.options.tolerance]
    state.outcome[met] = state.met[met]
    rows = state.active
    gradient = torch.zeros_like(ends.kept[1])
    index = torch.from_numpy(rows).to(gradient.device)
    seen = _look(batch, rows, ends.kept[1][index], gradient=True)
    state.evaluations[rows] += 1
    state.backwards[rows] += 1
    gradient[index] = seen.gradient
    return gradient


def _walk(batch: Batch, state: State, steps: Steps, at: Tensor, value: Floats, gradient: Tensor) -> None:
    origin, aim, limit = batch.origin, state.aim_value, state.limit
    for _ in range(state.options.descent.max_steps):
        rows = state.active
        if not len(rows):
            return
        index = torch.from_numpy(rows).to(at.device)
        delta = steps.propose(rows, value[rows] - aim[rows], gradient[index], at[index] - origin[index])
        ahead = batch.project(at[index] + delta)
        seen = _look(batch, rows, ahead, gradient=True)
        distance, good = _take(state, rows, seen, ahead, origin[index])
        state.backwards[rows] += 1
        passed = good & (value[rows] > aim[rows]) & (seen.value < aim[rows])
        part = torch.from_numpy(np.flatnonzero(passed)).to(at.device)
        _land(batch, state, rows[passed], (at[index[part]], ahead[part]), (value[rows[passed]], seen.value[passed]))
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
    distance = norms(points - origin)
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


def _land(batch: Batch, state: State, rows: Rows, ends: tuple[Tensor, Tensor], values: tuple[Floats, Floats]) -> None:
    """Search segments [k, *latent] whose first end is above the aim and whose second is below it."""
    aim = state.aim_value[rows]
    bracket = Bracket(values[0], np.full(len(rows), np.nan), aim)
    every = np.arange(len(rows))
    bracket.update(every, np.ones(len(rows)), values[1], np.ones(len(rows), dtype=bool))
    origin = batch.origin[torch.from_numpy(rows).to(ends[0].device)]
    for _ in range(state.options.max_evaluations):
        open_ = np.flatnonzero([state.outcome[row] is None for row in rows])
        if not len(open_):
            return
        t = bracket.next(open_)
        index = torch.from_numpy(open_).to(origin.device)
        points = ends[0][index] + times((ends[1] - ends[0])[index], t)
        seen = _look(batch, rows[open_], points, gradient=False)
        _, good = _take(state, rows[open_], seen, points, origin[index])
        bracket.update(open_[good], t[good], seen.value[good], np.ones(int(good.sum()), dtype=bool))
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


def _look(batch: Batch, rows: Rows, points: Tensor, *, gradient: bool) -> _Seen:
    """Decode and score; one decoder forward per row, and one backward if the gradient is wanted."""
    seen = batch.evaluate(rows, points, gradient=gradient)
    return _Seen(
        value=float64(seen.values),
        slope=norms(seen.gradients) if gradient else np.ones(len(rows)),
        gradient=seen.gradients,
        change=batch.image_change(rows, seen.images),
        images=seen.images,
    )
