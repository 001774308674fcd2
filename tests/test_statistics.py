"""Statistics against their definitions, written as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfalign._analysis import statistics
from cfalign._analysis.statistics import (
    auroc,
    bootstrap_counts,
    exchange_p,
    exchange_signs,
    exchanged_sums,
    generator,
    horseshoe,
    percentile_interval,
    q_values,
    resampled_sums,
    weighted_auroc,
)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_q_values_by_definition(p: list[float]) -> None:
    """q of p₍ᵢ₎ is the least of m·p₍ⱼ₎ / j over all j ≥ i, at most 1."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    expected = [0.0] * len(p)
    for rank, i in enumerate(order):
        expected[i] = min(1.0, *(len(p) * p[order[j]] / (j + 1) for j in range(rank, len(p))), 1.0)
    np.testing.assert_allclose(q_values(np.array(p)), expected, atol=1e-12)


def test_q_values_leave_nan_where_it_is_and_keep_the_shape() -> None:
    p = np.array([[0.01, np.nan], [0.04, 0.5]])
    q = q_values(p)
    assert q.shape == p.shape
    assert np.isnan(q[0, 1])
    np.testing.assert_allclose(q[~np.isnan(p)], [0.03, 0.06, 0.5])
    assert np.isnan(q_values(np.full(3, np.nan))).all()
    assert q_values(np.zeros(0)).shape == (0,)


def test_the_false_discovery_rate_is_controlled() -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(400):
        p = np.concatenate([rng.uniform(size=40), rng.uniform(size=10) * 1e-3])
        found = q_values(p) < 0.1
        shares.append(found[:40].sum() / max(1, found.sum()))
    assert np.mean(shares) < 0.1


@given(st.integers(1, 40), st.integers(0, 9))
def test_bootstrap_counts_draw_n_of_n(n: int, seed: int) -> None:
    counts = bootstrap_counts(n, resamples=50, rng=np.random.default_rng(seed))
    assert counts.shape == (50, n)
    assert (counts.sum(axis=1) == n).all()
    assert (counts >= 0).all()


def test_bootstrap_counts_are_those_of_drawing_with_replacement() -> None:
    """Counts of one image are binomial(n, 1/n)."""
    n = 10
    counts = bootstrap_counts(n, resamples=20_000, rng=np.random.default_rng(0))
    assert counts.mean(axis=0) == pytest.approx(1.0, abs=0.05)
    assert counts.var(axis=0) == pytest.approx(1 - 1 / n, abs=0.05)
    assert (counts == 0).mean() == pytest.approx((1 - 1 / n) ** n, abs=0.01)


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(1), []
    for _ in range(400):
        sample = rng.normal(2.0, 1.0, size=60)
        counts = bootstrap_counts(60, resamples=400, rng=rng)
        low, high = percentile_interval((counts @ sample / 60)[:, None])
        hits.append(low[0] <= 2.0 <= high[0])
    assert np.mean(hits) == pytest.approx(0.95, abs=0.035)


def test_percentile_interval_by_column() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(1001, 2, 2))
    samples[:, 0, 0] = np.nan
    samples[::2, 1, 1] = np.nan
    low, high = percentile_interval(samples, level=0.9)
    assert low.shape == high.shape == (2, 2)
    assert np.isnan(low[0, 0])
    assert np.isnan(high[0, 0])
    ordered = np.sort(samples[:, 0, 1])
    assert low[0, 1] == pytest.approx(ordered[50])
    assert high[0, 1] == pytest.approx(ordered[950])
    assert low[1, 1] == pytest.approx(np.percentile(samples[1::2, 1, 1], 5))


def test_exchange_signs_are_fair_coins() -> None:
    signs = exchange_signs(7, draws=4000, rng=np.random.default_rng(0))
    assert signs.shape == (4000, 7)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert signs.mean(axis=0) == pytest.approx(0.0, abs=0.06)
    assert np.corrcoef(signs.T)[0, 1] == pytest.approx(0.0, abs=0.06)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.integers(1, 30))
def test_exchange_p_by_counting(observed: list[float], draws: int) -> None:
    drawn = np.random.default_rng(draws).normal(size=(draws, 3)) * 2
    p = exchange_p(np.array(observed), drawn)
    for column in range(3):
        hits = sum(abs(value) >= abs(observed[column]) for value in drawn[:, column])
        assert p[column] == (1 + hits) / (1 + draws)


def test_exchange_p_keeps_nan_and_is_never_zero() -> None:
    p = exchange_p(np.array([np.nan, 100.0, 0.0]), np.ones((99, 3)))
    assert np.isnan(p[0])
    assert p[1:].tolist() == [0.01, 1.0]


def test_generators_depend_on_seed_and_names_alone() -> None:
    def drawn(*key: object) -> float:
        return float(generator(*key).random())  # type: ignore[arg-type]

    first = drawn(0, "bootstrap", "smiling")
    np.random.default_rng(5).random(1000)
    assert drawn(0, "bootstrap", "smiling") == first
    others = [(1, "bootstrap", "smiling"), (0, "bootstrap", "young"), (0, "exchange", "smiling"), (0, "bootstrap")]
    others.append((0, "smiling", "bootstrap"))
    assert len({drawn(*key) for key in others} | {first}) == 6


# --- sparse regression --------------------------------------------------------------------------------------


def regression(seed: int, truth: list[float], *, rows: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(rows, len(truth)))
    return design, design @ np.array(truth) + noise * rng.normal(size=rows)


def solve(design: np.ndarray, response: np.ndarray, *, seed: int = 0, samples: int = 2000) -> np.ndarray:
    """Draws [sample, coefficient] of one regression."""
    weight = np.ones((1, len(response)))
    return horseshoe(
        design[None],
        response[None],
        weight,
        noise=0.1,
        noise_weight=4.0,
        samples=samples,
        streams=[generator(seed, "one")],
    )[:, 0]


@pytest.mark.parametrize("truth", [[0.0, 0.5], [0.05, -0.1]])
def test_the_posterior_by_weighing_draws_from_the_prior(truth: list[float]) -> None:
    """p(b | λ, τ, σ) is normal in closed form; the rest is averaged over draws from the priors as they are written."""
    design, response = regression(0, truth, rows=6, noise=0.1)
    drawn = solve(design, response, samples=20_000)
    rng = np.random.default_rng(1)
    m = 400_000
    scale2 = (np.abs(rng.standard_cauchy((m, 2))) * np.abs(rng.standard_cauchy((m, 1)))) ** 2
    sigma2 = (4.0 * 0.1**2 / 2 / rng.standard_gamma(2.0, m))[:, None]
    precision = (design.T @ design) / sigma2[..., None]
    precision[:, [0, 1], [0, 1]] += 1 / scale2
    covariance = np.linalg.inv(precision)
    moment = (response @ design) / sigma2
    mean = np.einsum("mij,mj->mi", covariance, moment)
    log = 0.5 * (
        (mean * moment).sum(1)
        - response @ response / sigma2[:, 0]
        - 6 * np.log(sigma2[:, 0])
        - np.log(scale2).sum(1)
        + np.linalg.slogdet(covariance)[1]
    )
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    np.testing.assert_allclose(drawn.mean(axis=0), weight @ mean, atol=0.01)
    variance = weight @ (covariance[:, [0, 1], [0, 1]] + mean**2) - (weight @ mean) ** 2
    np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.15)


def test_intervals_of_sparse_regressions_cover_the_truth() -> None:
    truth = [0.6, 0.0, 0.0, -0.3, 0.0, 0.0, 0.0, 0.0]
    inside, wide = [], []
    for seed in range(60):
        design, response = regression(seed, truth, rows=12, noise=0.1)
        low, high = percentile_interval(solve(design, response, seed=seed, samples=500))
        inside.append((low <= truth) & (truth <= high))
        wide.append(high - low)
    share = np.mean(inside, axis=0)
    assert 0.88 <= share.mean() <= 1.0
    assert min(share[0], share[3]) >= 0.85
    assert np.mean(wide, axis=0)[[1, 2]].max() < np.mean(wide, axis=0)[0]  # it knows more of what is not there


def test_large_coefficients_are_not_shrunk() -> None:
    design, response = regression(3, [0.8, *[0.0] * 9], rows=20, noise=0.01)
    drawn = solve(design, response)
    assert drawn.mean(axis=0)[0] == pytest.approx(0.8, abs=0.03)
    assert np.abs(drawn.mean(axis=0)[1:]).max() < 0.03


def test_regressions_do_not_disturb_one_another_and_zero_columns_and_weights_take_no_part() -> None:
    (design, response), (other, reply) = (regression(s, [0.5, 0.0, 0.2], rows=8, noise=0.1) for s in (0, 1))
    pair = horseshoe(
        np.stack([design, other]),
        np.stack([response, reply]),
        np.ones((2, 8)),
        noise=0.1,
        noise_weight=4.0,
        samples=2000,
        streams=[generator(0, "one"), generator(5, "two")],
    )
    np.testing.assert_allclose(pair[:, 0], solve(design, response), atol=1e-9)
    weight = np.ones((1, 8))
    weight[0, 7] = 0
    blank = design.copy()
    blank[:, 1] = 0
    without = horseshoe(
        blank[None], response[None], weight, noise=0.1, noise_weight=4.0, samples=8000, streams=[generator(0, "a")]
    )[:, 0]
    smaller = solve(design[:7][:, [0, 2]], response[:7], samples=8000)
    np.testing.assert_allclose(without.mean(axis=0)[[0, 2]], smaller.mean(axis=0), atol=0.01)
    np.testing.assert_allclose(without.std(axis=0)[[0, 2]], smaller.std(axis=0), rtol=0.12)


@given(
    pairs=st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 1.0, float("nan")])), min_size=2, max_size=30)
)
def test_auroc_is_the_share_of_ordered_pairs(pairs: list[tuple[int, float]]) -> None:
    scores = np.array([p[0] for p in pairs], dtype=np.float64)
    labels = np.array([p[1] for p in pairs])
    positive, negative = scores[labels == 1], scores[labels == 0]
    found = auroc(scores, labels)
    if len(positive) == 0 or len(negative) == 0:
        assert np.isnan(found)
        return
    naive = np.mean([(p > n) + 0.5 * (p == n) for p in positive for n in negative])
    assert found == pytest.approx(naive, abs=1e-12)
    counts = np.random.default_rng(0).integers(0, 3, (4, len(pairs)))
    for row, weighted in zip(counts, weighted_auroc(scores, labels, counts.astype(np.float64)), strict=True):
        repeated = auroc(np.repeat(scores, row), np.repeat(labels, row))
        np.testing.assert_allclose(weighted, repeated, atol=1e-12)


@pytest.mark.parametrize("held", [1, 60, 2**20])
def test_draws_in_blocks_are_those_drawn_at_once(monkeypatch: pytest.MonkeyPatch, held: int) -> None:
    values = np.random.default_rng(3).normal(size=(7, 2))
    people = np.array([0, 0, 1, 2, 2, 3, 4])
    monkeypatch.setattr(statistics, "HELD", held)
    for who in (None, people):
        counts = bootstrap_counts(7, resamples=25, rng=generator(0, "a"), people=who)
        sums, drawn = resampled_sums(values, resamples=25, rng=generator(0, "a"), people=who)
        np.testing.assert_allclose(sums, counts @ values)
        np.testing.assert_array_equal(drawn, counts.sum(axis=1))
        signs = exchange_signs(7, draws=25, rng=generator(0, "b"), people=who)
        np.testing.assert_allclose(exchanged_sums(values, draws=25, rng=generator(0, "b"), people=who), signs @ values)
