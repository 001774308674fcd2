"""What known heads leave unexplained: regressions with images left out, slopes apart from known ones, one direction."""

from __future__ import annotations

import numpy as np
import pytest

from cfalign._analysis.unexplained import FOLDS, GRID, RIDGE, apart, regression, shared, sighted


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, dtype=np.float64)
    return vector / np.linalg.norm(vector)


def test_a_regression_is_ridge_with_the_penalty_of_least_error_on_folds_left_out() -> None:
    rng = np.random.default_rng(0)
    x, folds = rng.normal(size=(60, 4)), np.arange(60) % 5
    y = x @ [1.0, -2.0, 0.0, 0.5] + 3 + rng.normal(size=60)

    def ridge(design: np.ndarray, response: np.ndarray, share: float) -> tuple[np.ndarray, float]:
        centred = design - design.mean(axis=0)
        penalty = share * max((np.linalg.svd(centred)[1] ** 2).mean(), 1e-12)
        inverse = np.linalg.inv(centred.T @ centred + penalty * np.eye(4))
        slopes = inverse @ centred.T @ (response - response.mean())
        return slopes, response.mean() - design.mean(axis=0) @ slopes

    errors = []
    for share in GRID:
        left = np.zeros(60)
        for fold in range(5):
            out = folds == fold
            slopes, constant = ridge(x[~out], y[~out], share)
            left[out] = y[out] - x[out] @ slopes - constant
        errors.append(left)
    best = int(np.argmin([(e**2).sum() for e in errors]))
    found = regression(x, y, folds)
    slopes, constant = ridge(x, y, GRID[best])
    np.testing.assert_allclose(found.coefficients, slopes, atol=1e-10)
    assert found.constant == pytest.approx(constant)
    np.testing.assert_allclose(found.residual, errors[best], atol=1e-10)
    assert found.unexplained == pytest.approx((errors[best] ** 2).sum() / ((y - y.mean()) ** 2).sum())
    np.testing.assert_allclose(found.predict(x), x @ slopes + constant)


def test_a_head_that_known_ones_give_leaves_nothing_and_a_stranger_leaves_all() -> None:
    rng = np.random.default_rng(1)
    x, folds = rng.normal(size=(200, 3)), np.arange(200) % 5
    assert regression(x, x @ [2.0, 0.0, 1.0], folds).unexplained < 1e-6
    assert regression(x, rng.normal(size=200), folds).unexplained == pytest.approx(1, abs=0.05)
    assert regression(x, np.ones(200), folds).unexplained == 1


def test_rows_of_one_fold_are_left_out_together() -> None:
    """Two copies of every row: left out one by one, noise would be foreseen."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(20, 40)), rng.normal(size=20)
    twice, response = np.tile(x, (2, 1)), np.tile(y, 2)
    together = regression(twice, response, np.tile(np.arange(20) % 5, 2))
    one_by_one = regression(twice, response, np.arange(40))
    assert one_by_one.unexplained < 0.1 < 0.5 < together.unexplained


def test_what_known_slopes_give_goes_and_what_they_do_not_stays() -> None:
    known = np.array([[[3.0, 0, 0, 0], [0, 0.1, 0, 0]]])
    rest = apart(np.array([[2.0, 1.0, 4.0, 0.0]]), known)
    np.testing.assert_allclose(rest, [[2 * RIDGE / (1 + RIDGE), RIDGE / (1 + RIDGE), 4, 0]])


def test_a_known_head_without_slopes_explains_nothing() -> None:
    slopes = np.array([[1.0, 2.0]])
    np.testing.assert_allclose(apart(slopes, np.zeros((1, 3, 2))), slopes)


def test_each_image_has_its_own_known_slopes() -> None:
    slopes = np.array([[1.0, 0.0], [1.0, 0.0]])
    rest = apart(slopes, np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))
    assert rest[0, 0] == pytest.approx(RIDGE / (1 + RIDGE))
    np.testing.assert_allclose(rest[1], [1, 0])


def test_the_shared_direction_is_the_first_one_and_rises() -> None:
    rng = np.random.default_rng(3)
    common = unit(1, -2, 0.5)
    slopes = rng.uniform(1, 2, size=(50, 1)) * common + 0.1 * rng.normal(size=(50, 3))
    for sign in (1, -1):
        assert shared(sign * slopes) @ (sign * common) > 0.99


@pytest.mark.parametrize("strength", [0.0, 0.3, 3.0])
def test_a_strong_feature_is_taken_from_answers_and_a_weak_one_from_looks(strength: float) -> None:
    rng = np.random.default_rng(4)
    answers, looks = unit(1, 0, 0, 0), unit(0, 1, 0, 0)
    u = rng.normal(size=(400, 4))
    residual = strength * (u @ answers) + rng.normal(size=400)
    rest = np.tile(looks, (30, 1))
    found = sighted(u, residual, rest, np.arange(400) % FOLDS)
    truth = strength**2 / (1 + strength**2)
    assert found.told == pytest.approx(truth, abs=0.06)
    weight = found.told**0.5
    expected = weight * answers + (1 - weight) * looks
    assert found.direction @ expected / np.linalg.norm(expected) > 0.97
    assert np.linalg.norm(found.direction) == pytest.approx(1)


def test_agreement_is_the_cosine_of_both_directions() -> None:
    rng = np.random.default_rng(5)
    u = rng.normal(size=(500, 3))
    rest = np.tile(unit(1, 1, 0), (10, 1))
    found = sighted(u, 5 * u[:, 0], rest, np.arange(500) % FOLDS)
    assert found.agreement == pytest.approx(0.5**0.5, abs=0.01)
