"""Attributes that cannot be told apart: by counterfactuals that move each other, or by images that always have both."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from cfalign._analysis.alignment import Row
from cfalign._analysis.effects import Unmixed, effects
from cfalign._analysis.inseparable import APART, MOVED, SURE, Inseparable, going_together, inseparable, movement
from cfalign._analysis.options import EffectOptions
from cfalign._results import Floats, JointEffect, Outcome, joint_members, joint_name

NAMES = ("a", "b", "c")
HEADS = (*NAMES, "audited")
FEW = EffectOptions(samples=400, draws=300)


def row(base: str, change: Floats, *, n: int = 60, raised: bool = False, noise: float = 0.01, seed: int = 0) -> Row:
    """Counterfactuals of an attribute that change every head by so much per unit."""
    rng = np.random.default_rng([seed, HEADS.index(base), int(raised)])
    way = 0.6 if raised else -0.6
    before = np.full((n, len(HEADS)), 0.2 if raised else 0.8)
    after = before + way * change + noise * rng.normal(size=before.shape)
    null = before + noise * rng.normal(size=before.shape)
    own = HEADS.index(base)
    image = np.arange(n, dtype=np.int64) + (1000 if raised else 0)
    return Row(base, image, (Outcome.REACHED,) * n, before[:, own], after[:, own], before, after, null)


def world(mixing: Floats, use: Floats, *, seed: int = 0, noise: float = 0.01) -> list[Row]:
    """Both ways of every attribute; the audited head uses what the attributes' heads see."""
    table = np.column_stack([mixing, mixing @ use])
    return [row(n, table[k], raised=r, seed=seed, noise=noise) for r in (False, True) for k, n in enumerate(NAMES)]


def independent(n: int = 400, *, seed: int = 0) -> Floats:
    return np.where(np.random.default_rng(seed).random((n, 3)) < 0.5, 0.95, 0.05)


def grouped(rows: list[Row], scores: Floats | None = None) -> tuple[Inseparable, ...]:
    return inseparable(rows, HEADS, {}, {}, scores=independent() if scores is None else scores, names=NAMES)


def mixing(there: float, back: float) -> Floats:
    return np.array([[1.0, there, 0.1], [back, 1.0, 0.1], [0.0, 0.1, 1.0]])


# --- counterfactuals that move each other ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "back", "name"),
    [(0.7, 0.6, "a & b"), (-0.7, -0.6, "a & not b"), (0.9, 0.3, None), (0.3, 0.9, None), (0.4, 0.4, None)],
)
def test_both_must_move_the_other_by_half(there: float, back: float, name: str | None) -> None:
    found = grouped(world(mixing(there, back), np.zeros(3)))
    assert [g.name for g in found] == ([] if name is None else [name])
    assert MOVED == 0.5


def test_movement_is_the_share_of_a_full_switch_by_a_loop() -> None:
    rows, spans = world(mixing(0.7, 0.4), np.zeros(3)), {"a": 0.5, "b": 0.8}
    found = movement(rows, HEADS, NAMES, {"c": "audited"}, spans)
    columns, span = [0, 1, 3], [0.5, 0.8, 1.0]
    for k, base in enumerate(NAMES):
        total = np.zeros(4)
        for r in rows:
            for i in range(len(r)):
                if r.base == base:
                    total += (r.after[i] - r.before[i]) * (1 if r.after[:, k].sum() > r.before[:, k].sum() else -1)
        own = total[columns[k]] / span[k]
        expected = [total[c] / s / own for c, s in zip(columns, span, strict=True)]
        np.testing.assert_allclose(found[k], expected, rtol=1e-9)


def test_three_that_move_each_other_are_one_group_and_a_chain_is_not() -> None:
    alike = np.full((3, 3), 0.8) + 0.2 * np.eye(3)
    assert [g.name for g in grouped(world(alike, np.zeros(3)))] == ["a & b & c"]
    chain = np.array([[1.0, 0.8, 0.1], [0.8, 1.0, 0.6], [0.1, 0.6, 1.0]])
    assert [g.name for g in grouped(world(chain, np.zeros(3)))] == ["a & b"], "the stronger pair"


# --- images that always have both -------------------------------------------------------------------------------


def test_attributes_that_always_go_together_are_a_group_though_counterfactuals_tell_them_apart() -> None:
    scores = independent()
    scores[:, 1] = scores[:, 0]
    rows = world(mixing(0.0, 0.0), np.zeros(3))
    assert [g.name for g in grouped(rows, scores)] == ["a & b"]
    scores[:, 1] = 1 - scores[:, 0]
    assert [g.name for g in grouped(rows, scores)] == ["a & not b"]


def test_how_many_exceptions_are_allowed_by_the_bound() -> None:
    for exceptions in range(0, 30, 3):
        scores = independent()
        scores[:, 1] = scores[:, 0]
        scores[:exceptions, 1] = 1 - scores[:exceptions, 0]
        bound = beta.ppf(0.975, exceptions + 1, 400 - exceptions)
        assert (going_together(scores)[0, 1] == 1.0) == (bound < APART)


def test_unsure_scores_are_no_exceptions_and_few_images_prove_nothing() -> None:
    scores = independent()
    scores[:, 1] = scores[:, 0]
    scores[:100, 1] = 0.5
    assert going_together(scores)[0, 1] == 1.0
    assert going_together(scores[100:150])[0, 1] == 0.0, "50 images"
    assert going_together(np.full((400, 2), SURE)).tolist() == [[0, 0], [0, 0]], "they do not vary"


# --- joint effects ----------------------------------------------------------------------------------------------


def solved(rows: list[Row], groups: tuple[Inseparable, ...], **how: object) -> Unmixed:
    return effects(rows, HEADS, ("audited",), groups=groups, options=FEW, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("use", [(0.4, 0.0, 0.0), (0.2, 0.2, 0.0), (0.0, 0.4, 0.0)])
def test_the_joint_effect_is_known_where_the_members_are_not(use: tuple[float, ...]) -> None:
    """Their counterfactuals are the same but for noise."""
    rows = world(mixing(0.98, 0.98), np.array(use), noise=0.03)
    groups = grouped(rows)
    found = solved(rows, groups)
    (joint,) = found.joint
    assert joint.attributes == "a & b"
    assert joint.effect == pytest.approx(0.4, abs=0.06)
    assert joint.ci_low < 0.4 < joint.ci_high
    assert joint.clear
    members = {e.attribute: e for e in found.effects}
    for name, true in zip(NAMES, use, strict=True):
        assert members[name].ci_low <= true <= members[name].ci_high
    assert not (members["a"].clear and members["b"].clear)
    narrow = {e.attribute: e for e in solved(rows, ()).effects}
    widths = [[m[n].ci_high - m[n].ci_low for n in "ab"] for m in (members, narrow)]
    assert min(widths[0]) > max(widths[1]) - 1e-9, "least squares take no side"


def test_members_that_go_against_each_other_are_switched_against_each_other() -> None:
    rows = world(mixing(-0.7, -0.7), np.array([0.3, -0.2, 0.0]))
    groups = grouped(rows)
    (joint,) = solved(rows, groups).joint
    assert joint.attributes == "a & not b"
    assert joint.members == ("a", "b")
    assert joint.effect == pytest.approx(0.5, abs=0.05)


def test_a_head_has_no_joint_effect_with_its_own_concept() -> None:
    rows = world(mixing(0.7, 0.7), np.array([0.3, 0.2, 0.0]))
    groups = grouped(rows)
    heads = ("a", "b", "c", "own:a")
    assert effects(rows, heads, ("own:a",), groups=groups, options=FEW).joint == []
    assert effects(rows, heads, ("own:a",), groups=groups, options=FEW, unwitnessed=("own:a",)).joint == []


def test_effects_stay_within_what_a_score_can_do() -> None:
    rows = world(mixing(0.0, 0.0), np.array([1.3, 0.95, 0.0]))
    found = {e.attribute: e for e in solved(rows, ()).effects}
    assert found["a"].effect == found["a"].ci_high == 1.0
    assert found["b"].ci_high == 1.0
    assert found["b"].clear
    wide = {e.attribute: e for e in solved(rows, (), reach={"audited": 2.0}).effects}
    assert wide["a"].effect == pytest.approx(1.3, abs=0.05)
    assert wide["a"].clear
    far = {e.attribute: e for e in solved(world(mixing(0.0, 0.0), np.array([3.0, 0.2, 0.0])), ()).effects}
    assert np.isnan(far["a"].q), "no score does that"
    assert not far["a"].clear
    assert far["b"].clear


def test_a_contradicted_joint_effect_is_not_clear() -> None:
    assert not JointEffect("x", "a & b", 0.3, 0.2, 0.4, -0.1, 50, 0.001).clear


@given(
    st.lists(st.tuples(st.text("ab &'", min_size=1), st.booleans()), min_size=1, max_size=4, unique_by=lambda m: m[0])
)
def test_names_of_members_are_read_as_they_were_written(members: list[tuple[str, bool]]) -> None:
    named = [(" ".join(name.split()) or "a", there) for name, there in members]
    assert list(joint_members(joint_name(named))) == named


@pytest.mark.parametrize("name", ["a", "big_nose", "T-shirt / top", "it's", "ears & chin", "&", "'quoted'"])
def test_one_attribute_is_read_as_itself(name: str) -> None:
    assert joint_members(joint_name([(name, True)])) == ((name, True),)
    assert joint_members(joint_name([("b", True), (name, False)])) == (("b", True), (name, False))
