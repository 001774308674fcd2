"""Agreement of estimates with the truth: every score against a closed form or SciPy, and what intervals resample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from cfalign.benchmarks.agreement import (
    UNDEFINED,
    average_precision,
    mean_of_known,
    pearson,
    rank_correlation,
    rmse,
    score_of_groups,
    share,
    spearman,
)


def test_scores_by_hand() -> None:
    score, used = np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False])
    assert average_precision(score, used) == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(average_precision(score, ~used & used))
    truth = np.array([0.5, 0.1, 0.6, 0.0])
    assert spearman(score, truth) == pytest.approx(spearmanr(score, truth).statistic)
    assert pearson(score, truth) == pytest.approx(np.corrcoef(score, truth)[0, 1])
    assert np.isnan(pearson(np.ones(4), truth))
    assert rmse(score, truth) == pytest.approx(np.sqrt(np.mean((score - truth) ** 2)))


def test_means_and_shares_of_nothing_are_undefined() -> None:
    assert mean_of_known([1.0, math.nan, 4.0, math.inf]) == 2.5
    assert math.isnan(mean_of_known([math.nan]))
    assert share(np.array([True, False, True, True])) == 0.75
    assert math.isnan(share(np.array([], dtype=bool)))


def test_intervals_resample_whole_groups() -> None:
    """A hundred equal rows in two groups vary as two values: the mean of a resample is 0, 1/2 or 1."""
    values = np.repeat([0.0, 1.0], 50)
    groups = [np.arange(50), np.arange(50, 100)]
    seen: list[float] = []

    def mean(rows: np.ndarray) -> float:
        seen.append(float(values[rows].mean()))
        return seen[-1]

    found = score_of_groups(mean, groups, resamples=200, rng=np.random.default_rng(0))
    assert set(seen) == {0.0, 0.5, 1.0}
    assert (found.value, found.ci_low, found.ci_high) == (0.5, 0.0, 1.0)
    single = score_of_groups(mean, [np.arange(100)], resamples=20, rng=np.random.default_rng(0))
    assert (single.value, single.ci_low, single.ci_high) == (0.5, 0.5, 0.5)
    assert score_of_groups(mean, [], resamples=20, rng=np.random.default_rng(0)) is UNDEFINED


def test_resamples_without_a_value_do_not_count() -> None:
    def mean_unless_constant(rows: np.ndarray) -> float:
        return float(rows.mean()) if np.ptp(rows) else math.nan

    groups = [np.array([0]), np.array([1])]
    found = score_of_groups(mean_unless_constant, groups, resamples=100, rng=np.random.default_rng(0))
    assert (found.value, found.ci_low, found.ci_high) == (0.5, 0.5, 0.5)


def test_rank_correlation_in_closed_form() -> None:
    x = np.array([1.0, 2.0, 3.0, 4.0, 10.0, 11.0, 12.0, np.nan])
    y = np.array([1.0, 4.0, 9.0, 16.0, 3.0, 2.0, 1.0, 5.0])
    within = rank_correlation(x, y, ["a"] * 4 + ["b"] * 4, seed=0)
    assert (within.rho, within.n, within.groups) == (0.0, 7, 2)
    alone = rank_correlation(x[:4], y[:4], [""] * 4, seed=0)
    assert (alone.rho, alone.ci_low, alone.ci_high) == (1.0, 1.0, 1.0)
    assert math.isnan(rank_correlation(x[:4], np.ones(4), [""] * 4, seed=0).rho)
    assert math.isnan(rank_correlation(x[:2], y[:2], [""] * 2, seed=0).rho)


def test_spearman_is_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 6, size=(5, 12)).astype(float), rng.normal(size=(5, 12))
    expected = [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    assert spearman(x, y) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=12))
def test_rank_correlation_is_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = np.array(pairs, dtype=float).T
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert np.isnan(spearman(x, y))
    else:
        assert float(spearman(x, y)) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_a_rank_correlation_has_an_interval_and_leaves_out_what_is_unknown() -> None:
    x = np.array([1.0, 2, 3, 4, 5, np.nan])
    found = rank_correlation(x, x**3, [""] * 6, seed=0)
    assert (found.rho, found.n) == (1.0, 5)
    ordered = np.arange(40.0)
    noisy = rank_correlation(ordered, ordered + 12 * np.sin(ordered**2), [""] * 40, seed=0)
    assert noisy.ci_low < noisy.rho < noisy.ci_high < 1
    assert np.isnan(rank_correlation(x[:2], x[:2], [""] * 2, seed=0).rho)
