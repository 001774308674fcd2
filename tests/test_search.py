"""Search on rays whose values are formulas: every outcome, every count, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from cfalign._counterfactuals.batch import Rows
from cfalign._counterfactuals.gradient import Start
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.ray import Ends, Probe, search
from cfalign._errors import BadInput
from cfalign._results import Floats, Outcome

Curve = Callable[[float], float]


@dataclass
class Rays:
    """One curve per row; what the search asks is written down. The kept tensor holds the distance itself."""

    curves: Sequence[Curve]
    norm: float = 10.0
    on_logit: bool = True
    slopes: Sequence[float] | None = None
    change: Curve = lambda t: 1e-3 * t
    asked: list[tuple[int, float]] = field(default_factory=list)

    @property
    def start(self) -> Start:
        step = 1e-6
        slopes = self.slopes or [abs(f(step) - f(0.0)) / step for f in self.curves]
        n = len(self.curves)
        return Start(
            value=np.array([f(0.0) for f in self.curves], dtype=np.float64),
            slope=np.array(slopes, dtype=np.float64),
            on_logit=np.full(n, self.on_logit),
            norm=np.full(n, self.norm),
        )

    def evaluate(self, rows: Rows, distance: Floats) -> Probe:
        assert len(rows) == len(distance) > 0
        self.asked += list(zip(rows.tolist(), distance.tolist(), strict=True))
        value = np.array([self.curves[r](t) for r, t in zip(rows, distance, strict=True)], dtype=np.float64)
        change = np.array([self.change(t) for t in distance], dtype=np.float64)
        return Probe(value, change, (torch.from_numpy(distance.copy()),))

    def run(self, options: SearchOptions | None = None) -> Ends:
        """Search, and check what must hold whatever the curves are."""
        options, n = options or SearchOptions(), len(self.curves)
        start = self.start
        found = search(start, self.evaluate, (torch.zeros(n, dtype=torch.float64),), options=options)
        score0, score = start.score(start.value), start.score(found.value)
        aim = np.maximum(score0 - options.drop, options.floor)
        asked = np.bincount([r for r, _ in self.asked], minlength=n)
        assert found.evaluations.tolist() == asked.tolist()
        assert found.kept[0].tolist() == found.distances.tolist()
        for i, outcome in enumerate(found.outcomes):
            t = found.distances[i]
            assert isinstance(outcome, Outcome)
            assert found.value[i] == self.curves[i](t) or np.isnan(start.value[i])
            assert found.image_change[i] == (self.change(t) if t else 0.0)
            if not outcome.walked:
                assert t == 0.0
            if options.strategy == "refined" and outcome.walked:
                assert abs(score[i] - aim[i]) <= abs(score0[i] - aim[i])
                assert found.evaluations[i] <= options.max_evaluations
                assert 0 <= t <= options.max_distance * self.norm
                assert all(0 < asked <= options.max_distance * self.norm for r, asked in self.asked if r == i)
                if options.max_image_change is not None:
                    assert found.image_change[i] <= options.max_image_change
        return found


def one(curve: Curve, options: SearchOptions | None = None, **how: object) -> tuple[Ends, Rays]:
    rays = Rays([curve], **how)  # type: ignore[arg-type]
    return rays.run(options), rays


def landed_at(found: Ends, on_logit: bool = True) -> float:
    return float(expit(found.value[0]) if on_logit else found.value[0])


# --- refined ------------------------------------------------------------------------------------------------


def test_a_line_needs_one_evaluation_and_lands_exactly() -> None:
    found, rays = one(lambda t: 2.0 - 0.5 * t)
    aim = expit(2.0) - 0.6
    assert found.outcomes == (Outcome.REACHED,)
    assert found.evaluations.tolist() == [1]
    assert rays.asked[0][1] == pytest.approx((2.0 - logit(aim)) / 0.5, rel=1e-6)
    assert landed_at(found) == pytest.approx(aim, abs=1e-6)


@pytest.mark.parametrize(
    "curve",
    [
        lambda t: 3.0 - t - 0.3 * t * t,  # steeper and steeper: the first guess overshoots
        lambda t: 3.0 - 6.0 * (1 - np.exp(-t / 2)),  # saturating: the first guess falls short
        lambda t: 3.0 - 0.02 * t - 0.05 * t**3,  # hardly any slope at the start: far beyond
        lambda t: 3.0 - t + 0.3 * np.sin(4 * t),
        lambda t: 12.0 - 2 * t - 0.1 * t * t,
    ],
)
def test_smooth_falling_curves_land_within_the_tolerance(curve: Curve) -> None:
    found, _ = one(curve)
    assert found.outcomes == (Outcome.REACHED,)
    assert landed_at(found) == pytest.approx(expit(curve(0.0)) - 0.6, abs=0.01)
    assert found.evaluations[0] <= 10


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_neither_end_of_a_bracket_stays_for_long(sign: float) -> None:
    """A curve bent one way leaves one end of a plain secant in place, which then creeps."""

    def bent(t: float) -> float:
        return 3.0 - 8.0 * (1 - np.exp(-t)) if sign < 0 else 3.0 - 8.0 * np.expm1(t / 4) / np.expm1(10.0)

    found, _ = one(bent, slopes=[0.05])
    assert found.outcomes == (Outcome.REACHED,)
    assert found.evaluations[0] <= 10


def test_a_composition_on_probabilities_is_searched_on_its_own_scale() -> None:
    found, _ = one(lambda t: 1.3 - 0.4 * t + 0.01 * t * t, on_logit=False)
    assert found.outcomes == (Outcome.REACHED,)
    assert landed_at(found, on_logit=False) == pytest.approx(0.7, abs=0.01)


def test_a_start_too_low_for_the_drop_aims_at_the_floor_and_says_so() -> None:
    found, _ = one(lambda t: 0.2 - t)
    assert found.outcomes == (Outcome.FLOOR,)
    assert landed_at(found) == pytest.approx(0.05, abs=0.01)
    exact, _ = one(lambda t: float(logit(0.65 + 1e-9)) - t)
    assert exact.outcomes == (Outcome.REACHED,)


def test_a_start_at_or_below_the_floor_stays_there() -> None:
    found, rays = one(lambda t: float(logit(0.04)) - t, SearchOptions(eligible=0.0001))
    assert found.outcomes == (Outcome.FLOOR,)
    assert found.distances[0] == 0.0
    assert rays.asked == []


def test_a_start_below_eligibility_is_not_searched() -> None:
    rays = Rays([lambda t: -0.01 - t, lambda t: 0.0 - t])
    found = rays.run()
    assert found.outcomes == (Outcome.NOT_ELIGIBLE, Outcome.FLOOR)
    assert found.evaluations[0] == 0


def test_a_flat_gradient_is_not_walked() -> None:
    found, rays = one(lambda t: 2.0)
    assert found.outcomes == (Outcome.FLAT,)
    assert rays.asked == []


@pytest.mark.parametrize(("value", "slope"), [(np.nan, 1.0), (np.inf, 1.0), (2.0, np.nan), (2.0, np.inf)])
def test_a_start_that_is_not_finite_is_not_walked(value: float, slope: float) -> None:
    found, rays = one(lambda t: value, slopes=[slope])
    assert found.outcomes == (Outcome.NOT_FINITE,)
    assert rays.asked == []


def test_a_turn_before_the_aim_keeps_the_lowest_point_seen() -> None:
    def valley(t: float) -> float:
        return 2.0 - t + 0.25 * t * t  # lowest at t = 2: 1.0, far above the aim of logit(0.28)

    found, rays = one(valley)
    assert found.outcomes == (Outcome.TURNED,)
    assert found.value[0] == min(valley(t) for _, t in rays.asked)
    assert found.value[0] < 1.3
    assert found.evaluations[0] <= 10


def test_a_score_that_only_rises_stays_at_the_start() -> None:
    found, _ = one(lambda t: 2.0 + t)
    assert found.outcomes == (Outcome.TURNED,)
    assert found.distances[0] == 0.0


def test_a_turn_behind_the_aim_does_not_matter() -> None:
    found, _ = one(lambda t: 2.0 - 4.0 * np.sin(min(t, 4.0) / 2))  # falls to −2 at π, then rises
    assert found.outcomes == (Outcome.REACHED,)


def test_a_plateau_goes_on() -> None:
    def shelf(t: float) -> float:
        return 2.0 - t if t < 1 else 1.0 if t < 9 else 1.0 - (t - 9)

    found, _ = one(shelf)
    assert found.outcomes == (Outcome.REACHED,)
    assert found.distances[0] > 9


def test_a_plateau_without_end_meets_the_bound_on_the_distance() -> None:
    found, rays = one(lambda t: 2.0 - min(t, 1.0), norm=5.0)
    assert found.outcomes == (Outcome.LAMBDA_LIMIT,)
    assert max(t for _, t in rays.asked) == 20.0
    assert found.value[0] == 1.0
    assert found.evaluations[0] < 10


@pytest.mark.parametrize("height", [0.05, 0.4, 1.1])
def test_a_staircase_ends_on_the_best_step_seen(height: float) -> None:
    def stairs(t: float) -> float:
        return 3.0 - height * np.floor(t / height)

    found, rays = one(stairs, slopes=[1.0])
    aim = expit(3.0) - 0.6
    steps = [float(expit(3.0 - height * k)) for k in range(200)]
    assert abs(landed_at(found) - aim) == pytest.approx(min(abs(s - aim) for s in steps), abs=1e-12)
    near = abs(landed_at(found) - aim) <= 0.01
    assert found.outcomes == ((Outcome.REACHED if near else Outcome.LAMBDA_LIMIT),)
    assert len(rays.asked) <= 20


def test_stairs_that_begin_flat_are_climbed_down() -> None:
    """The first guess may fall on the first step, where the score is what it was."""
    found, _ = one(lambda t: 3.0 - 0.2 * np.floor(t / 8.0), slopes=[1.0], norm=100.0)
    assert found.outcomes == (Outcome.REACHED,)


def test_nan_in_the_middle_goes_back_to_the_start() -> None:
    def torn(t: float) -> float:
        return 3.0 - 0.5 * t if t < 6 else np.nan

    found, rays = one(torn, slopes=[1.0])
    assert rays.asked[0][1] < 6 < rays.asked[-1][1]
    assert found.outcomes == (Outcome.NOT_FINITE,)
    assert found.value.tolist() == [3.0]


def test_an_image_that_is_not_finite_counts_as_well() -> None:
    found, _ = one(lambda t: 3.0 - t, change=lambda t: np.nan if t else 0.0)
    assert found.outcomes == (Outcome.NOT_FINITE,)


def test_the_image_limit_is_never_passed_and_nearly_used() -> None:
    found, _ = one(lambda t: 3.0 - 0.1 * t, SearchOptions(max_image_change=0.01))
    assert found.outcomes == (Outcome.IMAGE_LIMIT,)
    assert 0.0097 <= found.image_change[0] <= 0.01


def test_an_image_limit_beyond_the_aim_does_not_matter() -> None:
    found, _ = one(lambda t: 3.0 - t, SearchOptions(max_image_change=0.01))
    assert found.outcomes == (Outcome.REACHED,)


def test_the_distance_limit_is_used_to_the_full() -> None:
    found, _ = one(lambda t: 3.0 - 0.1 * t, SearchOptions(max_distance=1.5))
    assert found.outcomes == (Outcome.LAMBDA_LIMIT,)
    assert found.distances[0] == 15.0


def test_a_latent_of_zero_still_has_a_distance_limit() -> None:
    found, rays = one(lambda t: 3.0 - 0.1 * t, norm=1.0)
    zero = Rays(rays.curves)
    start = replace(zero.start, norm=np.zeros(1))
    same = search(start, zero.evaluate, (torch.zeros(1, dtype=torch.float64),), options=SearchOptions())
    assert same.distances[0] == found.distances[0] == 4.0


def test_the_number_of_evaluations_is_bounded() -> None:
    found, rays = one(lambda t: 3.0 - 0.02 * t - 0.05 * t**3, SearchOptions(max_evaluations=2))
    assert found.outcomes == (Outcome.LAMBDA_LIMIT,)
    assert len(rays.asked) == 2


steepness = st.floats(0.05, 5.0)
starts = st.floats(0.01, 9.0)
bends = st.floats(-0.3, 0.9)


def _bent(start: float, slope: float, bend: float) -> Curve:
    """Falls for ever, its slope bent by up to 90 %: what rays of real autoencoders look like."""
    return lambda t: start - slope * t * (1 + bend * np.tanh(slope * t / 4))


@given(st.lists(st.tuples(starts, steepness, bends), min_size=30, max_size=30))
def test_smooth_rays_cost_few_evaluations(rows: list[tuple[float, float, float]]) -> None:
    found = Rays([_bent(*row) for row in rows], norm=1000.0).run()
    assert all(outcome.landed for outcome in found.outcomes)
    assert found.evaluations.mean() <= 4.0
    assert found.evaluations.max() <= 8


def test_the_usual_cost_is_about_two() -> None:
    rng = np.random.default_rng(0)
    rows = zip(rng.uniform(0, 8, 400), rng.lognormal(0, 1, 400), rng.uniform(-0.2, 0.4, 400), strict=True)
    found = Rays([_bent(*row) for row in rows], norm=1000.0).run()
    assert found.evaluations.mean() < 2.5


wild = st.tuples(
    starts,
    steepness,
    st.sampled_from(["line", "saturating", "valley", "waves", "stairs", "torn", "flat", "rising"]),
    st.floats(0.3, 3.0),
)


def _wild(start: float, slope: float, kind: str, size: float) -> Curve:
    shapes: dict[str, Curve] = {
        "line": lambda t: -slope * t,
        "saturating": lambda t: -3 * size * (1 - np.exp(-slope * t / (3 * size))),
        "valley": lambda t: -slope * t + 0.1 * slope * t * t / size,
        "waves": lambda t: -slope * t + size * np.sin(slope * t * 2) * 0.4,
        "stairs": lambda t: -size * np.floor(slope * t / size),
        "torn": lambda t: -slope * t if slope * t < size else np.nan,
        "flat": lambda t: 0.0,
        "rising": lambda t: slope * t,
    }
    return lambda t: start + shapes[kind](t)


@given(st.lists(wild, min_size=1, max_size=8), st.sampled_from(["refined", "schedule"]), st.booleans())
def test_rows_know_nothing_of_one_another(
    rows: list[tuple[float, float, str, float]], strategy: str, limited: bool
) -> None:
    """Batched equals row by row, number for number; the invariants of ``Rays.run`` hold for each."""
    options = SearchOptions(
        strategy=strategy,  # type: ignore[arg-type]
        max_image_change=0.004 if limited else None,
        max_lambda=3000.0 if strategy == "schedule" else SearchOptions.max_lambda,
    )
    curves, slopes = [_wild(*row) for row in rows], [row[1] for row in rows]
    together = Rays(curves, slopes=slopes).run(options)
    for i, curve in enumerate(curves):
        alone = Rays([curve], slopes=[slopes[i]]).run(options)
        assert alone.outcomes[0] is together.outcomes[i]
        assert alone.distances[0] == together.distances[i]
        assert alone.evaluations[0] == together.evaluations[i]


def _both(curves: Sequence[Curve], **more: Any) -> tuple[Ends, Ends, Rays]:
    """A drop of 0.6, and from there on one of 0.85, as attributes are switched off."""
    rays = Rays(curves, **more)
    first, further = SearchOptions(), SearchOptions(drop=0.85, tolerance=0.03)
    kept = (torch.zeros(len(curves), dtype=torch.float64),)
    one = search(rays.start, rays.evaluate, kept, options=first)
    return one, search(rays.start, rays.evaluate, kept, options=further, earlier=one), rays


@given(st.lists(wild, min_size=1, max_size=8))
def test_a_search_goes_on_from_an_earlier_one(rows: list[tuple[float, float, str, float]]) -> None:
    """No point is looked at twice, the best of the earlier end and of all new looks is kept, rows do not meet."""
    curves, slopes = [_wild(*row) for row in rows], [row[1] for row in rows]
    first, further, rays = _both(curves, slopes=slopes)
    assert len(set(rays.asked)) == len(rays.asked) == first.evaluations.sum() + further.evaluations.sum()
    aim = np.maximum(further.base_before - 0.85, 0.05)
    for i, curve in enumerate(curves):
        if not (first.outcomes[i].walked and further.outcomes[i].walked):
            continue
        new = rays.asked[first.evaluations.sum() :]
        seen = [expit(curve(t)) for r, t in new if r == i] + [first.base_after[i], further.base_before[i]]
        assert abs(further.base_after[i] - aim[i]) == pytest.approx(min(abs(s - aim[i]) for s in seen))
        assert further.kept[0][i] == further.distances[i]
        assert further.value[i] == curve(further.distances[i])
        alone = _both([curve], slopes=[slopes[i]])[1]
        assert (alone.distances[0], alone.evaluations[0]) == (further.distances[i], further.evaluations[i])


def test_going_on_takes_few_looks() -> None:
    """On a line one, where the drop ends at the other aim none, before a wall that was met none."""
    line, low, valley = lambda t: 3.0 - t, lambda t: 0.4 - t, lambda t: 2.0 - t + 0.3 * t * t
    first, further, _ = _both([line, low, valley])
    assert first.outcomes[2] is further.outcomes[2] is Outcome.TURNED
    assert further.evaluations.tolist() == [1, 0, 0]
    assert further.distances[1:].tolist() == first.distances[1:].tolist()
    rng = np.random.default_rng(0)
    rows = zip(rng.uniform(2, 8, 400), rng.lognormal(0, 1, 400), rng.uniform(-0.2, 0.4, 400), strict=True)
    assert _both([_bent(*row) for row in rows], norm=1000.0)[1].evaluations.mean() < 1.2


def test_the_schedule_is_gone_on_from_by_the_refined_search() -> None:
    rays = Rays([lambda t: 3.0 - t, lambda t: 4.0 - 0.5 * t])
    kept = (torch.zeros(2, dtype=torch.float64),)
    one = search(rays.start, rays.evaluate, kept, options=SearchOptions(strategy="schedule", max_image_change=1.0))
    seen = len(rays.asked)
    two = search(rays.start, rays.evaluate, kept, options=SearchOptions(drop=0.85, tolerance=0.03), earlier=one)
    assert two.outcomes == (Outcome.REACHED, Outcome.REACHED)
    assert len(rays.asked) - seen == two.evaluations.sum() <= 2


def test_nothing_to_search() -> None:
    assert len(Rays([]).run().outcomes) == 0


# --- schedule -----------------------------------------------------------------------------------------------

# Evaluated λ, independent of the code under test: λ − step + floor(λ / 10) for the authors' negative λ.
SEQUENCE = [0]
while SEQUENCE[-1] < 600_000:
    SEQUENCE.append(-(-SEQUENCE[-1] - 10 + (-SEQUENCE[-1]) // 10))


def scheduled(curve: Curve, options: SearchOptions | None = None, **how: object) -> tuple[Ends, list[float], float]:
    """Searched by the schedule; the λ that were evaluated; λ of the end."""
    options = replace(options or SearchOptions(), strategy="schedule")
    found, rays = one(curve, options, **how)
    per_lambda = rays.start.score_slope()[0]
    return found, [t / per_lambda for _, t in rays.asked], found.distances[0] / per_lambda


def test_the_sequence_is_the_authors() -> None:
    assert SEQUENCE[:10] == [0, 10, 21, 34, 48, 63, 80, 98, 118, 140]
    assert SEQUENCE[36] == 3103
    assert SEQUENCE[89] == 501_074


def test_the_schedule_evaluates_every_step_to_the_bound() -> None:
    found, lambdas, end = scheduled(lambda t: 0.9 - 1e-9 * t, on_logit=False, change=lambda t: 0.0)
    assert found.outcomes == (Outcome.LAMBDA_LIMIT,)
    assert lambdas == pytest.approx(SEQUENCE[:90])
    assert end == pytest.approx(501_074)


def test_the_bound_stops_at_the_bound_itself() -> None:
    _, lambdas, _ = scheduled(
        lambda t: 0.9 - 1e-9 * t, SearchOptions(strategy="schedule", max_lambda=34.0), on_logit=False
    )
    assert lambdas == pytest.approx([0, 10, 21, 34])


def test_lambda_is_in_units_of_the_score_gradient_on_the_logit_scale_too() -> None:
    slope, start = 0.25, 1.5
    _, lambdas, _ = scheduled(lambda t: start - slope * t, SearchOptions(strategy="schedule", max_lambda=34.0))
    assert lambdas == pytest.approx([0, 10, 21, 34])


def test_a_turn_keeps_the_last_point_as_the_authors_do() -> None:
    scores = {0: 0.787, 10: 0.233, 21: 0.212, 34: 0.790}
    found, lambdas, _ = scheduled(lambda t: scores[round(t)], on_logit=False, slopes=[1.0])
    assert found.outcomes == (Outcome.TURNED,)
    assert lambdas == [0, 10, 21, 34]
    assert found.value[0] == 0.790


def test_a_plateau_of_the_schedule_goes_on() -> None:
    scores = {0: 0.787, 10: 0.7, 21: 0.7, 34: 0.1}
    found, lambdas, _ = scheduled(lambda t: scores[round(t)], on_logit=False, slopes=[1.0])
    assert found.outcomes == (Outcome.REACHED,)
    assert lambdas == [0, 10, 21, 34]


def test_rounding_at_lambda_zero_is_no_turn() -> None:
    """The point at λ = 0 is decoded again, in another batch, so it may differ from the start in its last digit."""

    class Rounded(Rays):
        def evaluate(self, rows: Rows, distance: Floats) -> Probe:
            probe = super().evaluate(rows, distance)
            return replace(probe, value=probe.value + 1e-7)

    rays = Rounded([lambda t: 0.9 - 0.01 * t], on_logit=False)
    found = search(
        rays.start,
        rays.evaluate,
        (torch.zeros(1, dtype=torch.float64),),
        options=SearchOptions(strategy="schedule"),
    )
    assert found.evaluations[0] > 1


@pytest.mark.parametrize(
    ("scores", "change", "expected", "evaluations"),
    [
        ({0: 0.9, 10: 0.29}, 0.0, Outcome.REACHED, 2),  # the drop
        ({0: 0.6, 10: 0.04}, 0.0, Outcome.FLOOR, 2),
        ({0: 0.6, 10: 0.05, 21: 0.04}, 0.0, Outcome.FLOOR, 3),  # strictly below the floor
        ({0: 0.9, 10: 0.04}, 0.0, Outcome.FLOOR, 2),  # the floor is asked before the drop
        ({0: 0.9, 10: 0.2}, 0.06, Outcome.REACHED, 2),  # the drop before the image
        ({0: 0.9, 10: 0.8}, 0.06, Outcome.IMAGE_LIMIT, 2),
        ({0: 0.9, 10: 0.95}, 0.06, Outcome.TURNED, 2),  # a turn before everything
        ({0: 0.03}, 0.0, Outcome.FLOOR, 1),  # checked at λ = 0 for the first time
    ],
)
def test_the_stop_rules_in_their_order(
    scores: dict[int, float], change: float, expected: Outcome, evaluations: int
) -> None:
    def curve(t: float) -> float:
        return scores[round(t)]

    found, _, end = scheduled(
        curve,
        SearchOptions(eligible=-1.0, drop=0.6),
        on_logit=False,
        slopes=[1.0],
        change=lambda t: change if t else 0.0,
    )
    assert found.outcomes == (expected,)
    assert found.evaluations.tolist() == [evaluations]
    assert end == list(scores)[-1]


def test_the_bound_on_lambda_is_asked_before_the_image() -> None:
    options = SearchOptions(strategy="schedule", max_lambda=10.0)
    found, _, _ = scheduled(
        lambda t: 0.9 - 0.001 * t, options, on_logit=False, slopes=[1.0], change=lambda t: 0.1 * (t > 0)
    )
    assert found.outcomes == (Outcome.LAMBDA_LIMIT,)


def test_the_image_rule_of_the_schedule_is_on_by_default_at_five_percent() -> None:
    found, lambdas, _ = scheduled(lambda t: 0.9 - 0.001 * t, on_logit=False, slopes=[1.0], change=lambda t: t / 400)
    assert found.outcomes == (Outcome.IMAGE_LIMIT,)
    assert lambdas == [0, 10, 21]
    wide = SearchOptions(max_image_change=0.1)
    found, lambdas, _ = scheduled(
        lambda t: 0.9 - 0.001 * t, wide, on_logit=False, slopes=[1.0], change=lambda t: t / 400
    )
    assert lambdas == [0, 10, 21, 34, 48]


def test_a_drop_of_exactly_the_wanted_size_goes_on() -> None:
    scores = {0: 0.875, 10: 0.375, 21: 0.25}
    found, lambdas, _ = scheduled(
        lambda t: scores[round(t)], SearchOptions(drop=0.5), on_logit=False, slopes=[1.0], change=lambda t: 0.0
    )
    assert found.outcomes == (Outcome.REACHED,)
    assert lambdas == [0, 10, 21]


def test_nan_ends_the_schedule_at_the_start() -> None:
    found, _, _ = scheduled(lambda t: 0.9 if t < 15 else np.nan, on_logit=False, slopes=[1.0])
    assert found.outcomes == (Outcome.NOT_FINITE,)
    assert found.distances[0] == 0.0
    assert found.evaluations[0] == 3


# --- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("drop", 0.0),
        ("drop", -0.6),
        ("drop", float("nan")),
        ("off_drop", 0.0),
        ("floor", 5.0),
        ("floor", float("nan")),
        ("eligible", float("nan")),
        ("tolerance", 0.0),
        ("max_evaluations", 0),
        ("max_distance", 0.0),
        ("max_lambda", 0.0),
        ("max_image_change", 0.0),
        ("max_image_change", float("nan")),
    ],
)
def test_options_that_make_no_sense_are_named(name: str, value: object) -> None:
    with pytest.raises(BadInput, match=name):
        SearchOptions(**{name: value})  # type: ignore[arg-type]


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(BadInput, match="strategy: expected one of refined, schedule, got 'bisect'"):
        SearchOptions(strategy="bisect")  # type: ignore[arg-type]
