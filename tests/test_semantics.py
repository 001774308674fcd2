"""What the oracle says of counterfactuals whose changes are given: means over what landed, ranks, and intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cfalign._results import Counterfactuals, Outcome
from cfalign.benchmarks.semantics import HeadSemantics, Semantics, head_semantics

FACTORS = ("smiling", "eyeglasses", "young")
RNG = np.random.default_rng(1)


def counterfactuals(outcomes: list[Outcome], base_change: list[float]) -> Counterfactuals:
    n = len(outcomes)
    before = np.full(n, 0.9)
    return Counterfactuals(
        images=torch.zeros(n, 3, 2, 2),
        reconstructions=torch.zeros(n, 3, 2, 2),
        base_before=before,
        base_after=before + np.array(base_change),
        lambdas=np.ones(n),
        distances=np.ones(n),
        outcomes=tuple(outcomes),
        evaluations=np.ones(n, dtype=np.int64),
        image_change=np.zeros(n),
        backwards=np.ones(n, dtype=np.int64),
    )


def seen(change: np.ndarray, outcomes: list[Outcome] | None = None) -> HeadSemantics:
    outcomes = outcomes or [Outcome.REACHED] * len(change)
    return head_semantics("smiling", FACTORS, counterfactuals(outcomes, [-0.6] * len(change)), change, 0)


def test_only_searches_that_landed_count() -> None:
    outcomes = [Outcome.REACHED, Outcome.FLAT, Outcome.REACHED, Outcome.FLAT]
    change = np.array([[-0.4, 0.1, 0.0], [9.0, 9.0, 9.0], [-0.6, 0.1, 0.0], [9.0, 9.0, 9.0]])
    found = seen(change, outcomes)
    assert (found.n, found.landed) == (2, 0.5)
    assert (found.base_change, found.oracle_change) == (pytest.approx(-0.6), pytest.approx(-0.5))
    assert (found.rank, found.runner_up, found.runner_up_change) == (1, "eyeglasses", pytest.approx(0.1))
    assert found.ci_low <= found.oracle_change <= found.ci_high


def test_the_rank_is_that_of_the_mean_change_and_the_wrong_direction_is_last() -> None:
    second = seen(np.tile([-0.2, 0.5, 0.1], (4, 1)))
    assert (second.rank, second.runner_up) == (2, "eyeglasses")
    wrong = seen(np.tile([0.9, 0.1, -0.1], (4, 1)))
    assert wrong.rank == len(FACTORS)


def test_the_interval_is_that_of_the_mean_over_images() -> None:
    own = RNG.normal(-0.5, 0.2, size=400)
    found = seen(np.stack([own, np.zeros(400), np.zeros(400)], axis=1))
    error = own.std() / np.sqrt(400)
    assert (found.ci_high - found.ci_low) == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_the_headline_counts_heads_of_rank_one() -> None:
    first, second = seen(np.tile([-0.5, 0.1, 0.0], (3, 1))), seen(np.tile([-0.2, 0.5, 0.1], (3, 1)))
    result = Semantics((first, second, first), seed=0)
    assert result.headline == {"heads": 3, "rank1_heads": 2}
    assert "in 2 of 3 heads" in result.lines()[-1]
    assert [row["rank"] for row in result.as_dict()["heads"]] == [1, 2, 1]
