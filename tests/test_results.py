"""The values: when a number is clear, and what is a head's own concept."""

from __future__ import annotations

import pytest

from cfalign._counterfactuals.options import SearchOptions
from cfalign._results import ALPHA, Cell, Effect, GroupGap, JointEffect, StartsAt, excludes_zero

NAN = float("nan")
INTERVALS = [
    (0.01, 0.3, True),
    (-0.3, -0.01, True),
    (-0.1, 0.3, False),
    (0.0, 0.3, False),
    (-0.3, 0.0, False),
    (NAN, 0.3, False),
    (0.1, NAN, False),
    (NAN, -0.1, False),
    (NAN, NAN, False),
]
LEVELS = [(0.001, True), (0.0499, True), (0.05, False), (0.2, False), (NAN, False)]


def effect(low: float, high: float, q: float) -> Effect:
    middle = (low + high) / 2
    return Effect("own:smiling", "young", middle, low, high, middle, NAN, 40, q)


def cell(low: float, high: float, q: float) -> Cell:
    return Cell("smiling", "young", (low + high) / 2, 0.1, 0.1, NAN, low, high, 40, 0, q, q)


def gap(low: float, high: float, audited: str = "own:smiling", attribute: str = "young") -> GroupGap:
    return GroupGap(audited, attribute, (low + high) / 2, low, high, 0.1, 0.1, 0.1, 40, 40, "")


def test_pictures_of_a_strip_are_named_once_each() -> None:
    assert StartsAt.IMAGE.pictures == ("original", "counterfactual")
    assert StartsAt.RECONSTRUCTION.pictures == ("original", "reconstruction", "counterfactual")
    assert all(start.pictures[-2] == start.picture for start in StartsAt)
    assert SearchOptions(residual="kept").start is SearchOptions(residual="gated").start is StartsAt.IMAGE
    assert SearchOptions(residual="dropped").start is StartsAt.RECONSTRUCTION


@pytest.mark.parametrize(("low", "high", "clear"), INTERVALS)
def test_an_interval_is_clear_of_zero_or_not(low: float, high: float, clear: bool) -> None:
    assert excludes_zero(low, high) == gap(low, high).clear == clear
    assert effect(low, high, 0.001).clear == cell(low, high, 0.001).clear == clear


@pytest.mark.parametrize(("incoming", "clear"), [(0.3, True), (NAN, True), (0.0, True), (-0.01, False)])
def test_an_effect_that_its_own_incoming_reading_contradicts_is_not_clear(incoming: float, clear: bool) -> None:
    for sign in (1, -1):
        ends = sorted((sign * 0.1, sign * 0.3))
        assert Effect("a", "b", sign * 0.2, *ends, sign * incoming, NAN, 40, 0.001).clear == clear
        assert JointEffect("a", "b & c", sign * 0.2, *ends, sign * incoming, 40, 0.001).clear == clear


def test_the_members_of_a_joint_effect() -> None:
    joint = JointEffect("own:smiling", "male & not no_beard & young", 0.2, 0.1, 0.3, 0.2, 40, 0.001)
    assert joint.members == ("male", "no_beard", "young")


@pytest.mark.parametrize(("q", "clear"), LEVELS)
def test_effects_and_cells_need_a_small_q_too(q: float, clear: bool) -> None:
    assert ALPHA == 0.05
    assert effect(0.1, 0.3, q).clear == cell(0.1, 0.3, q).clear == clear


def test_the_own_concept_is_the_same_target_of_any_classifier() -> None:
    for audited, attribute, own in (
        ("smiling", "smiling", True),
        ("own:smiling", "smiling", True),
        ("own:smiling", "ref:smiling", True),
        ("own:smiling", "young", False),
    ):
        assert Effect(audited, attribute, 0.1, 0.0, 0.2, 0.1, NAN, 40, 0.1).own == own
        assert gap(0.1, 0.2, audited, attribute).own == own
