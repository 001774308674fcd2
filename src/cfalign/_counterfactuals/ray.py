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
from cfalign._counterfactuals.bracket import Bracket, Looks
from cfalign._counterfactuals.gradient import Rays, Start
from cfalign._counterfactuals.options import SearchOptions
from cfalign._results import Floats, Outcome

_WALL = 0.02  # of the way: where to stop before a point that must not be passed
_TURN = 0.1  # the same before a score that rises again; around a turn it hardly depends on the place


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
    looks: Looks | None = None
    """All that the search has seen of the rays, that of earlier searches included; None off rays."""

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


def walk_rays(batch: Batch, rays: Rays, aim: SearchOptions, *, earlier: Ends | None = None) -> Ends:
    """Search every pair's ray for the aim; the images x_λ are kept. ``earlier``: ends of the same rays."""
    origin = batch.origin

    @torch.no_grad()
    def look(rows: Rows, distance: Floats) -> Probe:
        index = torch.from_numpy(rows).to(origin.device)
        seen, answers = batch.answered(rows, shifted(origin[index], rays.direction[index], distance))
        return Probe(float64(seen.values), batch.image_change(rows, seen.images), (seen.images, answers))

    heads = sum(len(classifier.targets) for classifier in batch.models.classifiers)
    unknown = torch.full((len(batch.pairs), heads), torch.nan, dtype=origin.dtype, device=origin.device)
    if earlier is not None and earlier.logits is not None:
        earlier = replace(earlier, kept=(earlier.images, earlier.logits))
    ends = search(rays.start, look, (batch.before, unknown), options=aim, earlier=earlier)
    images, answers = ends.kept
    backwards = np.full(len(ends), 0 if earlier else rays.backwards, dtype=np.int64)
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


def search(
    start: Start, look: Look, kept: tuple[Tensor, ...], *, options: SearchOptions, earlier: Ends | None = None
) -> Ends:
    """Search every row.

    ``kept``: what ``look`` would keep at distance 0 (images, logits, …), each [row, ...]; it takes the type of numbers
    that ``look`` keeps. ``earlier``: the ends of a search of the same rays for another aim, which kept the same: what
    it saw is not looked at again.
    """
    state = State(start, kept, options)
    if earlier is not None:
        state.go_on(earlier)
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
        self.looks: list[Looks] = []
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

    @property
    def allowed(self) -> float:
        """Bound on the image change (``refined``)."""
        return np.inf if self.options.max_image_change is None else self.options.max_image_change

    def go_on(self, earlier: Ends) -> None:
        """Begin with all that an earlier search has seen of the rows, and with its ends."""
        if earlier.looks is not None:
            self.looks.append(earlier.looks)
        rows = np.flatnonzero(earlier.walked & unset(self.outcome))
        index = torch.from_numpy(rows)
        ends = tuple(kept[index.to(kept.device)] for kept in earlier.kept)
        self.take(rows, earlier.distances[rows], Probe(earlier.value[rows], earlier.image_change[rows], ends))

    def take(self, rows: Rows, distance: Floats, probe: Probe) -> Flags:
        """Keep points that are nearer to the aim, and end rows that land; which of them the image change allows."""
        inside = unset(self.outcome[rows]) & (probe.image_change <= self.allowed)
        miss, best = self.missed(rows, probe.value)
        self.keep(rows, distance, probe, inside & (miss < best))
        met = inside & (miss <= self.options.tolerance)
        self.outcome[rows[met]] = self.met[rows[met]]
        return inside

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
        self._note(rows, distance, probe)
        finite = np.isfinite(probe.value) & np.isfinite(probe.image_change)
        self.outcome[rows[~finite]] = Outcome.NOT_FINITE
        return probe, finite

    def _note(self, rows: Rows, distance: Floats, probe: Probe) -> None:
        seen = np.full((3, 1, len(self.score0)), np.nan)
        seen[:, 0, rows] = distance, probe.value, probe.image_change
        self.looks.append(Looks(*seen))

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
            looks=Looks.joined(self.looks) if self.looks else None,
        )

    def _lambdas(self, lost: Rows) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            values = np.where(self.distance > 0, self.distance / self.start.score_slope(), 0.0)
        values[lost] = np.nan
        return np.where(np.isfinite(values), values, np.nan)


def _refine(state: State, look: Look) -> None:
    """Linear prediction, then a bracket on the ray; a rise without a bracket is a turning point."""
    state.end_at_floor()
    bracket = Bracket(state.start.value, state.start.slope, state.aim_value)
    for looks in state.looks:
        bracket.replay(looks, state.allowed)
    limit = state.limit
    for _ in range(state.options.max_evaluations):
        _end_where_stuck(state, bracket)
        rows = state.active
        if not len(rows):
            return
        t = np.minimum(bracket.next(rows), limit[rows])
        probe, good = state.probe(rows, t, look)
        inside = state.take(rows, t, probe)
        on = good & unset(state.outcome[rows])
        bracket.update(rows[on], t[on], probe.value[on], inside[on])
    _end_where_stuck(state, bracket)
    rest = state.active
    state.outcome[rest] = np.where(unset(bracket.wall[rest]), Outcome.LAMBDA_LIMIT, bracket.wall[rest])


def _end_where_stuck(state: State, bracket: Bracket) -> None:
    """End rows that have come to the limit of the distance, or close enough to a wall."""
    rows, limit = state.active, state.limit
    low, high = bracket.low[rows], bracket.high[rows]
    state.outcome[rows[(low >= limit[rows]) & ~np.isfinite(high)]] = Outcome.LAMBDA_LIMIT
    close = np.where(bracket.wall[rows] == Outcome.TURNED, _TURN, _WALL)
    walled = ~unset(bracket.wall[rows]) & (high - low < close * high)
    state.outcome[rows[walled]] = bracket.wall[rows[walled]]


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
