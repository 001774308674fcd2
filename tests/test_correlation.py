"""Pearson's r with its interval: against its definition, its bounds, and where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfalign._analysis.correlation import correlation

VALUES = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=4, max_size=30)


@given(VALUES)
def test_r_is_the_mean_product_of_standard_scores(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, dtype=np.float64).T
    found = correlation(a, b)
    assert found.n == len(pairs)
    if a.std() == 0 or b.std() == 0:
        assert math.isnan(found.r)
        return
    expected = np.mean((a - a.mean()) / a.std() * (b - b.mean()) / b.std())
    assert found.r == pytest.approx(expected, abs=1e-9)
    assert found.ci_low - 1e-9 <= found.r <= found.ci_high + 1e-9


def test_the_interval_is_that_of_fishers_z() -> None:
    drawn = np.random.default_rng(0).standard_normal((2, 50))
    found = correlation(drawn[0], drawn[0] + drawn[1])
    half = 1.959964 / math.sqrt(47)
    z = math.atanh(found.r)
    assert (found.ci_low, found.ci_high) == pytest.approx((math.tanh(z - half), math.tanh(z + half)), abs=1e-6)


def test_images_without_a_value_are_left_out() -> None:
    a = np.array([0.0, 1.0, 2.0, 3.0, math.nan, 9.0])
    b = np.array([0.0, 1.0, 2.0, 3.0, 7.0, math.nan])
    assert correlation(a, b).n == 4
    assert correlation(a, b).r == pytest.approx(1.0)


@pytest.mark.parametrize("still", [np.ones(8), np.full(8, 1e8) + np.arange(8) * 1e-9, np.zeros(8)])
def test_what_does_not_vary_has_no_correlation(still: np.ndarray) -> None:
    found = correlation(still, np.arange(8.0))
    assert math.isnan(found.r)
    assert found.n == 8


def test_three_images_are_too_few() -> None:
    assert math.isnan(correlation(np.arange(3.0), np.arange(3.0)).r)
