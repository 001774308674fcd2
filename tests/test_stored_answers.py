"""Answers of heads to counterfactuals, kept on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from cfalign._audit.answers import Answers
from cfalign._runs.columns import Column

FIRST = pl.DataFrame(
    {"base": ["a", "b", "a"], "lambda": [1.0, 2.0, 3.0], "before.a": [0.1, 0.2, 0.3], "before.b": [0.4, 0.5, 0.6]}
)
SECOND = pl.DataFrame({"base": ["a"], "lambda": [4.0], "before.a": [0.7], "before.b": [0.8]})


def test_they_come_back_base_by_base_in_the_order_of_the_shards(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    narrow = [answers.add(shard) for shard in (FIRST, SECOND)]
    assert [table.columns for table in narrow] == [["base", "lambda"]] * 2
    of_a = answers.of("a", Column.BEFORE, ["b", "a"])
    np.testing.assert_array_equal(np.asarray(of_a), [[0.4, 0.1], [0.6, 0.3], [0.8, 0.7]])
    np.testing.assert_array_equal(np.asarray(answers.of("b", Column.BEFORE, ["a"])), [[0.2]])
    assert np.asarray(answers.of("nobody", Column.BEFORE, ["a"])).shape == (0, 1)


def test_rows_are_chosen_without_being_read(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.add(FIRST)
    some = answers.of("a", Column.BEFORE, ["a"])[np.array([False, True])]
    np.testing.assert_array_equal(np.asarray(some), [[0.3]])
    np.testing.assert_array_equal(np.asarray(some[np.array([False])]), np.zeros((0, 1)))
    assert some[0, 0] == 0.3


def test_shards_may_be_added_after_some_were_read(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.add(FIRST)
    np.testing.assert_array_equal(np.asarray(answers.of("a", Column.BEFORE, ["a"])), [[0.1], [0.3]])
    answers.add(SECOND)
    np.testing.assert_array_equal(np.asarray(answers.of("a", Column.BEFORE, ["a"])), [[0.1], [0.3], [0.7]])
    np.testing.assert_array_equal(np.asarray(answers.of("b", Column.BEFORE, ["b"])), [[0.5]])


def test_nothing_of_them_is_left_behind(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.add(FIRST)
    del answers
    assert list(tmp_path.iterdir()) == []
