"""Where to stop on the ray z_λ = z0 − λ g: two strategies, both batched, finished pairs leaving the batch.

The search knows one scalar per pair. The caller says what a pair's value is at a distance along its *unit* direction;
walking in latent distance keeps the numbers sane where λ itself spans ten orders of magnitude.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logit
from torch import Tensor

from cfalign._counterfactuals.batch import Batch, Flags, Rows, float64, shifted
from cfalign._counterfactuals.gradient import Rays, Start
from cfalign._counterfactuals.options import SearchOptions
from cfalign._results import Floats, Outcome

ROUNDING = 1e-5  # a value that rises by less has not turned: a plateau goes on


@dataclass(frozen=True)
class Probe:
    """Rows seen at a distance: their values [k], their image change [k], and what to keep of the best one."""

    value: Floats
    image_change: Floats
    kept: tuple[Tensor, ...]


Look = Callable[[Rows, Floats], Probe]
"""(row indices [k], distances [k]) → Probe; one decoder forward per row."""


@dataclass(frozen=True)
class Ends:
    """Pairs after their search for one aim, each [pair]; one without a counterfactual stays at z0, with distance 0."""

    outcomes: tuple[Outcome, ...]
    value: Floats
    """Of the base, in the unit of ``Start.value``."""
    base_before: Floats
    """Score of the base at x0."""
    base_after: Floats
    distances: Floats
    """‖z_λ − z0‖."""
    lambdas: Floats
    """λ of Eq. 1, in units of the gradient of the score; NaN where there is no counterfactual, where a method does not
    stay on the ray, and where the score is so saturated that λ has no float64."""
    image_change: Floats
    """Σ|x0 − x_λ| / Σ|x0|."""
    evaluations: Rows
    """Decoder forwards of the search."""
    backwards: Rows
    """Backward passes through the decoder."""
    kept: tuple[Tensor, ...]
    """What was kept of every end, each [pair, ...]; first the images x_λ [pair, c, h, w] where images were walked."""
    logits: Tensor | None = None
    """Of all heads of the base's classifiers at x_λ, [pair, head], where the search has kept them: NaN at z0."""

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def images(self) -> Tensor:
        """x_λ [pair, c, h, w]."""
        return self.kept[0]

    @property
    def walked(self) -> Flags:
        """Where there is a counterfactual at all."""
        return np.array([outcome.walked for outcome in self.outcomes], dtype=bool)

    @property
    def landed(self) -> Flags:
        """Where the search met its aim."""
        return np.array([outcome.landed for outcome in self.outcomes], dtype=bool)


def walk_rays(batch: Batch, rays: Rays, aim: SearchOptions) -> Ends:
    """Search every pair's ray for the aim; the images x_λ are kept."""
    origin = batch.origin

    @torch.no_grad()
    def look(rows: Rows, distance: Floats) -> Probe:
        index = torch.from_numpy(rows).to(origin.device)
        seen, answers = batch.answered(rows, shifted(origin[index], rays.direction[index], distance))
        return Probe(float64(seen.values), batch.image_change(rows, seen.images), (seen.images, answers))

    heads = sum(len(classifier.targets) for classifier in batch.models.classifiers)
    unknown = torch.full((len(batch.pairs), heads), torch.nan, dtype=origin.dtype, device=origin.device)
    ends = search(rays.start, look, (batch.before, unknown), options=aim)
    images, answers = ends.kept
    backwards = np.full(len(ends), rays.backwards, dtype=np.int64)
    return replace(ends, kept=(images,), logits=answers, backwards=backwards)


def ends_at(batch: Batch, rays: Rays, aim: SearchOptions, values: Floats, images: Tensor) -> Ends:
    """The ends of rays that have one, where the values [pair] and images [pair, c, h, w] are known: no search.

    A pair whose value is at the aim there or beyond has met it. One whose image changes more than it may stays at z0.
    """
    assert rays.start.reach is not None
    state = State(rays.start, (batch.before,), aim)
    state.end_at_floor()
    rows = state.active
    index = torch.from_numpy(rows)
    there = Probe(values[rows], batch.image_change(rows, images[index.to(images.device)]), (images[index],))
    inside = there.image_change <= (np.inf if aim.max_image_change is None else aim.max_image_change)
    state.keep(rows, rays.start.reach[rows], there, np.isfinite(there.value) & inside)
    beyond = rays.start.score(values[rows], rows) <= state.aim[rows] + aim.tolerance
    state.outcome[rows] = np.where(beyond, state.met[rows], Outcome.LAMBDA_LIMIT)
    state.outcome[rows[~inside]] = Outcome.IMAGE_LIMIT
    state.outcome[rows[~np.isfinite(values[rows])]] = Outcome.NOT_FINITE
    return state.ends()


def search(start: Start, look: Look, kept: tuple[Tensor, ...], *, options: SearchOptions) -> Ends:
    """Search every row.

    ``kept``: what ``look`` would keep at distance 0 (images, logits, …), each [row, ...]; it takes the type of numbers
    that ``look`` keeps.
    """
    state = State(start, kept, options)
    (_refine if options.strategy == "refined" else _schedule)(state, look)
    return state.ends()


class State:
    """Point kept so far, outcome and cost of every row."""

    def __init__(self, start: Start, kept: tuple[Tensor, ...], options: SearchOptions) -> None:
        self.start, self.options = start, options
        n = len(start.value)
        self.score0 = start.score(start.value)
        self.aim = np.maximum(self.score0 - options.drop, options.floor)
        self.distance, self.change = np.zeros(n), np.zeros(n)
        self.value = start.value.copy()
        self.evaluations, self.backwards = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self.first, self.kept = kept, tuple(k.clone() for k in kept)
        self.outcome = np.full(n, None, dtype=object)
        self.outcome[start.slope <= 0] = Outcome.FLAT
        self.outcome[self.score0 < options.eligible] = Outcome.NOT_ELIGIBLE
        self.outcome[~(np.isfinite(start.value) & np.isfinite(start.slope))] = Outcome.NOT_FINITE

    @property
    def active(self) -> Rows:
        """Rows that go on."""
        return np.flatnonzero(unset(self.outcome))

    @property
    def met(self) -> NDArray[np.object_]:
        """The outcome of a row that lands: ``floor`` where the start was too low for the drop."""
        outcomes = np.full(len(self.score0), Outcome.REACHED, dtype=object)
        outcomes[self.score0 - self.options.drop < self.options.floor] = Outcome.FLOOR
        return outcomes

    @property
    def aim_value(self) -> Floats:
        """The aim in the unit of ``start.value``."""
        return np.where(self.start.on_logit, logit(np.clip(self.aim, 1e-12, 1 - 1e-12)), self.aim)

    @property
    def limit(self) -> Floats:
        """Bound on the latent distance."""
        bound = self.options.max_distance * np.where(self.start.norm > 0, self.start.norm, 1.0)
        return bound if self.start.reach is None else np.minimum(bound, self.start.reach)

    def end_at_floor(self) -> None:
        """End rows that start at their aim or below it."""
        active = self.active
        self.outcome[active[(self.score0 <= self.aim)[active]]] = Outcome.FLOOR

    def missed(self, rows: Rows, value: Floats) -> tuple[Floats, Floats]:
        """|score − aim| of values seen in ``rows``, and of the best points kept so far."""
        best = np.abs(self.start.score(self.value[rows], rows) - self.aim[rows])
        return np.abs(self.start.score(value, rows) - self.aim[rows]), best

    def probe(self, rows: Rows, distance: Floats, look: Look) -> tuple[Probe, Flags]:
        """Evaluate rows, count it, end those that are not finite; the flags say which go on."""
        probe = look(rows, distance)
        self.evaluations[rows] += 1
        finite = np.isfinite(probe.value) & np.isfinite(probe.image_change)
        self.outcome[rows[~finite]] = Outcome.NOT_FINITE
        return probe, finite

    def keep(self, rows: Rows, distance: Floats, probe: Probe, where: Flags) -> None:
        """Keep what was seen of the rows that the flags name."""
        take = rows[where]
        self.distance[take], self.value[take] = distance[where], probe.value[where]
        self.change[take] = probe.image_change[where]
        chosen = torch.from_numpy(np.flatnonzero(where))
        stores = [store.to(new.dtype) for store, new in zip(self.kept, probe.kept, strict=True)]
        for store, new in zip(stores, probe.kept, strict=True):
            store[torch.from_numpy(take).to(store.device)] = new[chosen.to(new.device)]
        self.kept = tuple(stores)

    def ends(self) -> Ends:
        """The end of every row."""
        lost = np.flatnonzero([not Outcome(o).walked for o in self.outcome])  # NaN may come after some good points
        self.distance[lost], self.change[lost], self.value[lost] = 0.0, 0.0, self.start.value[lost]
        for store, first in zip(self.kept, self.first, strict=True):
            index = torch.from_numpy(lost).to(store.device)
            store[index] = first[index].to(store.dtype)
        return Ends(
            outcomes=tuple(Outcome(o) for o in self.outcome),  # numpy turns a StrEnum into a plain str
            value=self.value,
            base_before=self.score0,
            base_after=self.start.score(self.value),
            distances=self.distance,
            lambdas=self._lambdas(lost),
            image_change=self.change,
            evaluations=self.evaluations,
            backwards=self.backwards,
            kept=self.kept,
        )

    def _lambdas(self, lost: Rows) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            values = np.where(self.distance > 0, self.distance / self.start.score_slope(), 0.0)
        values[lost] = np.nan
        return np.where(np.isfinite(values), values, np.nan)


class Bracket:
    """Per row: the near end, still above the aim, and the far end, below it or a wall that must not be passed."""

    def __init__(self, excess: Floats, slope: Floats) -> None:
        self.low, self.high = np.zeros_like(excess), np.full_like(excess, np.inf)
        self.f_low, self.f_high = excess.copy(), np.full_like(excess, np.nan)
        self.rate = slope.copy()
        self.side = np.zeros(len(excess), dtype=np.int64)
        self.wall = np.full(len(excess), None, dtype=object)

    def update(self, rows: Rows, t: Floats, f: Floats, inside: Flags) -> None:
        """Take in values − aim ``f`` at distances ``t``; ``inside``: where the image change is allowed."""
        below = inside & (f < 0)
        open_end = np.isnan(self.f_high[rows])
        turned = inside & ~below & open_end & (f > self.f_low[rows] + ROUNDING)
        ahead = inside & ~below & ~turned
        for where, wall in ((turned, Outcome.TURNED), (~inside, Outcome.IMAGE_LIMIT)):
            self.high[rows[where]], self.f_high[rows[where]] = t[where], np.nan
            self.wall[rows[where]] = wall
        self._move_far(rows[below], t[below], f[below])
        self._move_near(rows[ahead], t[ahead], f[ahead])

    def _move_far(self, rows: Rows, t: Floats, f: Floats) -> None:
        self.f_low[rows] *= np.where(self.side[rows] < 0, 0.5, 1.0)  # Illinois: the end that stays twice is halved
        self.high[rows], self.f_high[rows], self.side[rows] = t, f, -1
        self.wall[rows] = None

    def _move_near(self, rows: Rows, t: Floats, f: Floats) -> None:
        self.f_high[rows] *= np.where(self.side[rows] > 0, 0.5, 1.0)
        self.rate[rows] = (self.f_low[rows] - f) / (t - self.low[rows])
        self.low[rows], self.f_low[rows], self.side[rows] = t, f, 1

    def next(self, rows: Rows) -> Floats:
        """Illinois inside a bracket, the middle before a wall, extrapolation by the last slope without either."""
        low, high, f_low, f_high = self.low[rows], self.high[rows], self.f_low[rows], self.f_high[rows]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            further = np.clip(low + f_low / self.rate[rows], 1.1 * low, 3.0 * low)
            between = low + np.clip(f_low / (f_low - f_high), 0.02, 0.98) * (high - low)
        return np.where(np.isfinite(f_high), between, np.where(np.isfinite(high), (low + high) / 2, further))


def _refine(state: State, look: Look) -> None:
    """Linear prediction, then bracket and Illinois on the ray; a rise without a bracket is a turning point."""
    start, options = state.start, state.options
    state.end_at_floor()
    aim, limit = state.aim_value, state.limit
    allowed = np.inf if options.max_image_change is None else options.max_image_change
    bracket = Bracket(start.value - aim, start.slope)
    distance = np.minimum((start.value - aim) / np.where(start.slope > 0, start.slope, np.inf), limit)
    for _ in range(options.max_evaluations):
        rows = state.active
        if not len(rows):
            return
        t = distance[rows]
        probe, good = state.probe(rows, t, look)
        inside = good & (probe.image_change <= allowed)
        miss, best = state.missed(rows, probe.value)
        state.keep(rows, t, probe, inside & (miss < best))
        met = inside & (miss <= options.tolerance)
        state.outcome[rows[met]] = state.met[rows[met]]
        on = good & ~met
        bracket.update(rows[on], t[on], (probe.value - aim[rows])[on], inside[on])
        far = on & (t >= limit[rows]) & ~np.isfinite(bracket.high[rows])
        state.outcome[rows[far]] = Outcome.LAMBDA_LIMIT
        walled = on & ~unset(bracket.wall[rows])
        narrow = walled & (bracket.high[rows] - bracket.low[rows] < 0.02 * bracket.high[rows])
        state.outcome[rows[narrow]] = bracket.wall[rows[narrow]]
        distance[rows] = np.minimum(bracket.next(rows), limit[rows])
    rest = state.active
    state.outcome[rest] = np.where(unset(bracket.wall[rest]), Outcome.LAMBDA_LIMIT, bracket.wall[rest])


def _schedule(state: State, look: Look) -> None:
    """The authors' sequence 0, 10, 21, 34, … of λ and their stop rules in their order; the last λ evaluated is kept."""
    start, options = state.start, state.options
    allowed = 0.05 if options.max_image_change is None else options.max_image_change
    per_lambda = start.score_slope()
    previous, lam = np.full_like(state.score0, np.inf), 0.0
    while len(rows := state.active):
        probe, good = state.probe(rows, lam * per_lambda[rows], look)
        state.keep(rows, lam * per_lambda[rows], probe, good)
        score = start.score(probe.value, rows)
        rules = (
            (previous[rows] < score, Outcome.TURNED),
            (score < options.floor, Outcome.FLOOR),
            (state.score0[rows] - options.drop > score, Outcome.REACHED),
            (np.full(len(rows), lam >= options.max_lambda), Outcome.LAMBDA_LIMIT),
            (probe.image_change > allowed, Outcome.IMAGE_LIMIT),
        )
        for hit, outcome in rules:
            undecided = unset(state.outcome[rows])
            state.outcome[rows[hit & undecided]] = outcome
        previous[rows] = score
        lam += 10 + np.ceil(lam / 10)


def unset(outcomes: NDArray[np.object_]) -> Flags:
    """Which outcomes are still open."""
    return np.array([outcome is None for outcome in outcomes], dtype=bool)
