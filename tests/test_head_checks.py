"""What a run says of its reference heads, in closed form."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from cfalign._analysis.alignment import Row
from cfalign._audit.head_checks import check_heads, followed
from cfalign._results import Outcome

COLUMNS = ["a", "b", "judge:a", "judge:b"]


def row_of(base: str, before: list[list[float]], after: list[list[float]]) -> Row:
    count = len(before)
    start, end = (np.array(x, dtype=np.float64) for x in (before, after))
    k = COLUMNS.index(base)
    return Row(
        base=base,
        image=np.arange(count),
        outcomes=(Outcome.REACHED,) * count,
        base_before=start[:, k],
        base_after=end[:, k],
        before=start,
        after=end,
        null=start,
    )


def test_what_a_run_says_of_its_heads_in_closed_form() -> None:
    rows = [
        row_of("a", [[1.0, 0.5, 0.9, 0.5]], [[0.0, 0.5, 0.4, 0.2]]),  # judge:b falls by 0.3 of 1
        row_of("b", [[0.5, 1.0, 0.5, 1.0], [0.5, 0.0, 0.5, 0.0]], [[0.3, 0.5, 0.5, 0.6], [0.3, 0.0, 0.6, 0.0]]),
        row_of("b", [[0.2, 0.1, 0.5, 0.1]], [[0.6, 0.6, 0.4, 0.5]]),  # raised
    ]  # Σ over b, the raised one backwards: own −1, a −0.8, judge:a +0.2
    scores = pl.DataFrame({f"reconstruction.{c}": [0.5, x] for c, x in zip(COLUMNS, (0.1, 0.2, 0.5, 0.2), strict=True)})
    judges = {"a": "judge:a", "b": "judge:b"}
    found = check_heads(rows, COLUMNS, scores=scores, attributes=["a", "b"], judges=judges)
    assert found["a"] == pytest.approx({"disagreement": 0.2, "entangled": 0.3, "answers": 0.8, "misread": 1.0})
    assert found["b"] == pytest.approx({"disagreement": 0.0, "entangled": 0.2, "answers": 0.0, "misread": 0.3})
    alone = check_heads(rows[:1], COLUMNS[:2], scores=scores, attributes=["a", "b"], judges={})
    assert math.isnan(alone["a"]["misread"])
    assert math.isnan(alone["b"]["entangled"])
    without = check_heads([], COLUMNS[:2], scores=scores, attributes=["a", "b"], judges={})
    assert all(math.isnan(value) for checks in without.values() for value in checks.values())


def test_a_judge_follows_by_its_share_of_the_change_over_both_ways() -> None:
    lowered = row_of("a", [[0.9, 0.5, 0.8, 0.5]] * 20, [[0.1, 0.5, 0.4, 0.5]] * 20)
    raised = row_of("a", [[0.1, 0.5, 0.2, 0.5]] * 20, [[0.9, 0.5, 0.8, 0.5]] * 20)
    share = followed([lowered, raised], COLUMNS, "a", "judge:a", seed=0)
    assert share.judge_share == pytest.approx((0.4 + 0.6) / 1.6)
    assert share.n == 40
    assert 0.5 < share.ci_low < share.judge_share < share.ci_high < 0.75
    assert share == followed([lowered, raised], COLUMNS, "a", "judge:a", seed=0)
    only = followed([lowered], COLUMNS, "a", "judge:a", seed=0)
    assert [only.judge_share, only.ci_low, only.ci_high] == pytest.approx([0.5] * 3), "all images say the same"


def test_nothing_is_said_of_an_attribute_without_counterfactuals() -> None:
    share = followed([row_of("b", [[0.5] * 4], [[0.1] * 4])], COLUMNS, "a", "judge:a", seed=0)
    assert share.n == 0
    assert all(math.isnan(x) for x in (share.judge_share, share.ci_low, share.ci_high))
