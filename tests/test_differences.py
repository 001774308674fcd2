"""Differences of estimates: closed forms, coverage on drawn numbers, and what is undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfalign._analysis.differences import Estimate, difference, summed

VALUES = st.floats(-1, 1)
REACHES = st.floats(0.001, 1)


def symmetric(value: float, error: float) -> Estimate:
    return Estimate(value, value - 1.959964 * error, value + 1.959964 * error)


def test_symmetric_intervals_give_the_root_of_the_sum_of_squares() -> None:
    found = difference(symmetric(0.1, 0.03), symmetric(0.4, 0.04))
    assert found.value == pytest.approx(0.3)
    assert (found.ci_low, found.ci_high) == pytest.approx((0.3 - 1.959964 * 0.05, 0.3 + 1.959964 * 0.05))
    assert found.p == pytest.approx(math.erfc(6 / math.sqrt(2)), rel=1e-4)


@given(VALUES, VALUES, REACHES, REACHES, REACHES, REACHES, st.floats(0, 0.3))
def test_the_interval_excludes_zero_where_p_is_below_one_in_twenty(
    a: float, b: float, low: float, high: float, under: float, over: float, shared: float
) -> None:
    found = difference(Estimate(a, a - low, a + high), Estimate(b, b - under, b + over), shared=shared)
    assert found.ci_low <= found.value <= found.ci_high
    excluded = found.ci_low > 1e-12 or found.ci_high < -1e-12
    assert excluded == (found.p < 0.05) or abs(found.p - 0.05) < 1e-6


@given(VALUES, VALUES, REACHES, REACHES)
def test_the_difference_the_other_way_round_is_its_mirror_image(a: float, b: float, low: float, high: float) -> None:
    one, other = Estimate(a, a - low, a + high), Estimate(b, b - high, b + low)
    there, back = difference(one, other), difference(other, one)
    assert (there.value, there.ci_low, there.ci_high) == pytest.approx((-back.value, -back.ci_high, -back.ci_low))
    assert there.p == pytest.approx(back.p)


def test_intervals_of_differences_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        before, after = rng.normal(0.2, 0.05), rng.normal(0.5, 0.08)
        found = difference(symmetric(before, 0.05), symmetric(after, 0.08))
        hits += found.ci_low <= 0.3 <= found.ci_high
    assert 0.94 < hits / 2000 < 0.96


def test_an_error_that_both_share_counts_once() -> None:
    """Both are off by one factor, so that equal effects stay equal and a difference is off by it."""
    rng = np.random.default_rng(1)
    hits, equal = 0, 0
    for _ in range(2000):
        factor = rng.normal(1, 0.2)
        noise = rng.normal(0, 0.01, 3)
        found = [factor * truth + error for truth, error in zip((0.3, 0.6, 0.6), noise, strict=True)]
        known = [symmetric(value, math.hypot(0.01, 0.2 * value)) for value in found]
        grown = difference(known[0], known[1], shared=0.2)
        hits += grown.ci_low <= 0.3 <= grown.ci_high
        equal += difference(known[1], known[2], shared=0.2).p < 0.05
    assert 0.9 < hits / 2000 < 0.97
    assert 0.03 < equal / 2000 < 0.07


def test_what_has_no_interval_has_no_difference() -> None:
    nan = float("nan")
    for blank in (Estimate(nan, nan, nan), Estimate(0.2, nan, 0.3), Estimate(0.2, 0.1, math.inf)):
        found = difference(symmetric(0.1, 0.1), blank)
        assert all(map(math.isnan, (found.value, found.ci_low, found.ci_high, found.p)))
        assert math.isnan(summed([symmetric(0.1, 0.1), blank], [1, 1]).value)


def test_numbers_without_any_error_differ_for_certain_or_not_at_all() -> None:
    exact = Estimate(0.5, 0.5, 0.5)
    assert difference(exact, exact).p == 1.0
    assert difference(exact, Estimate(0.6, 0.6, 0.6)).p == 0.0


def test_a_sum_takes_the_ends_with_their_signs() -> None:
    found = summed([Estimate(0.3, 0.2, 0.5), Estimate(0.1, 0.0, 0.4)], [1, -1])
    assert found.value == pytest.approx(0.2)
    assert found.ci_low == pytest.approx(0.2 - math.hypot(0.1, 0.3))
    assert found.ci_high == pytest.approx(0.2 + math.hypot(0.2, 0.1))
