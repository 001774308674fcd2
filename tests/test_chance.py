"""Chance of unnamed features: its distribution by simulation, its limit in closed form, and the free directions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from cfalign._discovery.chance import controls_of, p_value, unknown

CONTROLS = 16


def cosines(*shape: int, free: int, seed: int = 0) -> np.ndarray:
    """Of random unit vectors with one axis."""
    rng = np.random.default_rng(seed)
    along = rng.standard_normal(shape)
    return along / np.sqrt(along**2 + rng.chisquare(free - 1, size=shape))


@pytest.mark.parametrize("free", [3, 4, 6, 12, 60])
@pytest.mark.parametrize("level", [0.3, 0.05, 0.01])
def test_a_random_direction_is_a_feature_as_often_as_p_says(free: int, level: float) -> None:
    drawn = cosines(200_000, CONTROLS + 1, free=free)
    ratios = np.abs(drawn[:, 0]) / np.sqrt((drawn[:, 1:] ** 2).mean(axis=1))
    random = 0.03 * np.array([1, -1] * (CONTROLS // 2))
    effect = 0.03 * float(np.quantile(ratios, 1 - level))
    assert p_value(effect, random=random, noise=1e-5, free=free) == pytest.approx(level, rel=0.1)


@pytest.mark.parametrize("free", [4, 60])
def test_with_noise_of_images_p_is_at_most_cautious(free: int) -> None:
    drawn = 0.1 * cosines(200_000, CONTROLS + 1, free=free)
    noise = 0.05 * np.random.default_rng(1).standard_normal(200_000)
    chance = np.sqrt((drawn[:, 1:] ** 2).mean(axis=1))
    ratios = np.abs(drawn[:, 0] + noise) / np.hypot(chance, 0.05)
    usual = float(np.median(chance))
    effect = float(np.quantile(ratios, 0.95)) * np.hypot(usual, 0.05)
    random = usual * np.array([1, -1] * (CONTROLS // 2))
    assert 0.045 < p_value(effect, random=random, noise=0.05, free=free) < 0.1


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.12, 3.0])
@pytest.mark.parametrize("noise", [0.001, 0.02])
def test_with_many_free_directions_it_is_students_t(ratio: float, noise: float) -> None:
    random = 0.03 * np.array([1, -1] * (CONTROLS // 2))
    effect = ratio * np.hypot(0.03, noise)
    found = p_value(effect, random=random, noise=noise, free=1e6)
    assert found == pytest.approx(2 * t.sf(ratio, CONTROLS), rel=0.08)
    assert p_value(-effect, random=random, noise=noise, free=1e6) == found


def test_the_direction_itself_is_told_from_random_ones_where_few_are_free() -> None:
    random = 0.5 * cosines(CONTROLS, free=6, seed=1)
    chance = float(np.sqrt((random**2).mean()))
    found = p_value(0.5, random=random, noise=0.01, free=6)
    assert found < 0.6 * 2 * t.sf(0.5 / chance, CONTROLS)
    assert found < 0.05


def test_there_is_no_p_where_nothing_varies_or_too_few_directions_are_free() -> None:
    still, random = np.zeros(CONTROLS), np.linspace(-0.1, 0.1, CONTROLS)
    assert np.isnan(p_value(0.0, random=still, noise=0.0, free=20))
    assert np.isnan(p_value(float("nan"), random=random, noise=0.1, free=20))
    assert np.isnan(p_value(0.5, random=random, noise=0.1, free=2.9))
    assert "leave 2.9 directions of the latent space free" in unknown(2.9)
    assert unknown(3.0) == ""


def test_controls_are_apart_from_known_looks_and_free_counts_the_rest() -> None:
    rng = np.random.default_rng(2)
    coordinates = rng.standard_normal((80, 20))
    known = np.zeros((10, 6, 20))
    known[:, np.arange(6), np.arange(6)] = 3.0
    known[:, 5] = known[:, 4]  # two heads that look the same way
    found = controls_of(coordinates, known, count=CONTROLS, ends=0.05, seed=0)
    assert found.free == pytest.approx(15, abs=0.15)
    directions = np.stack([line.direction for line in found.lines])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    assert np.abs(directions[:, :5]).mean() < 0.1 * np.abs(directions[:, 5:]).mean()
