"""ψ and the alignment matrix against loops written from Eq. 3, and under changes that must not matter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from cfalign._analysis.alignment import Row, alignment, relative_change, usable
from cfalign._analysis.options import AlignmentOptions
from cfalign._analysis.statistics import bootstrap_counts, exchange_signs, generator
from cfalign._errors import BadInput
from cfalign._heads.panel import panel
from cfalign._results import Cell, Floats, Outcome
from linear_world import LinearClassifier, directions, linear_images, measured_rows

HEADS = ("a", "b", "c")
FEW = AlignmentOptions(resamples=200, draws=400)


def row(n: int = 20, *, seed: int = 0, base: str = "a", **changes: Any) -> Row:
    """A base whose score falls by about 0.6; ``b`` follows it, ``c`` does not; the control moves little."""
    rng = np.random.default_rng(seed)
    before = rng.uniform(0.3, 0.9, size=(n, 3))
    column = HEADS.index(base)
    before[:, column] = rng.uniform(0.7, 0.99, size=n)
    after = np.clip(before + rng.normal(0, 0.05, size=(n, 3)), 0.001, 0.999)
    after[:, column] = before[:, column] - rng.uniform(0.4, 0.65, size=n)
    other = (column + 1) % 3
    after[:, other] = before[:, other] * 0.6
    null = np.clip(before + rng.normal(0, 0.02, size=(n, 3)), 0.001, 0.999)
    made = Row(
        base=base,
        image=np.arange(n, dtype=np.int64),
        outcomes=(Outcome.REACHED,) * n,
        base_before=before[:, column].copy(),
        base_after=after[:, column].copy(),
        before=before,
        after=after,
        null=null,
    )
    return replace(made, **changes)


def cells(*rows: Row, scale: dict[str, float] | None = None, heads: tuple[str, ...] = HEADS) -> dict[Any, Cell]:
    out = alignment(rows, heads, logit_scale=scale or {}, options=FEW)
    return {(cell.base, cell.downstream): cell for cell in out}


# --- ψ ------------------------------------------------------------------------------------------------------


@given(st.floats(0.05, 0.9), st.integers(0, 5))
def test_relative_change_by_its_definition(minimum: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    change, base = rng.normal(size=(12, 4)), rng.uniform(-1, 1, size=12)
    base[3] = np.nan
    psi = relative_change(change, base, min_base_change=minimum)
    for i in range(12):
        for j in range(4):
            if np.isnan(base[i]) or abs(base[i]) < minimum:
                assert np.isnan(psi[i, j])
            else:
                assert psi[i, j] == change[i, j] / base[i]


def test_a_change_of_exactly_the_minimum_counts() -> None:
    psi = relative_change(np.array([[0.3], [0.3]]), np.array([-0.25, -0.2499]), min_base_change=0.25)
    assert psi[0, 0] == -1.2
    assert np.isnan(psi[1, 0])


# --- which counterfactuals count ----------------------------------------------------------------------------


def test_everything_that_does_not_count_is_counted_by_reason() -> None:
    every = row(9)
    outcomes = list(every.outcomes)
    outcomes[0], outcomes[1], outcomes[2], outcomes[3] = (
        Outcome.NOT_ELIGIBLE,
        Outcome.FLAT,
        Outcome.NOT_FINITE,
        Outcome.TURNED,
    )
    after, base_after = every.after.copy(), every.base_after.copy()
    base_after[4] = every.base_before[4] - 0.29
    base_after[5] = np.nan
    after[6, 1] = np.nan
    kept, reasons = usable(
        replace(every, outcomes=tuple(outcomes), after=after, base_after=base_after), min_base_change=0.3
    )
    assert kept.image.tolist() == [3, 7, 8]
    assert kept.outcomes == (Outcome.TURNED, Outcome.REACHED, Outcome.REACHED)
    assert reasons == {
        "not_eligible": 1,
        "flat": 1,
        "not_finite": 1,
        "base_change_too_small": 2,
        "response_not_finite": 1,
    }
    assert len(kept) + sum(reasons.values()) == len(every)


def test_a_base_that_rose_far_enough_counts() -> None:
    kept, _ = usable(row(3, base_after=np.array([0.99, 0.99, 0.1]), base_before=np.full(3, 0.5)), min_base_change=0.3)
    assert kept.image.tolist() == [0, 1, 2]


def test_the_cell_says_how_many_it_rests_on_and_how_many_not() -> None:
    outcomes = (Outcome.NOT_ELIGIBLE, Outcome.NOT_ELIGIBLE, Outcome.FLAT, *[Outcome.REACHED] * 7)
    cell = cells(row(10, outcomes=outcomes))["a", "b"]
    assert (cell.n, cell.excluded) == (7, 1)


def test_a_base_without_counterfactuals_has_no_numbers() -> None:
    found = cells(row(4, outcomes=(Outcome.FLAT,) * 4), row(10, base="b"))
    cell = found["a", "b"]
    assert (cell.n, cell.excluded) == (0, 4)
    values = (cell.psi, cell.ratio_of_means, cell.median, cell.psi_logit, cell.ci_low, cell.ci_high, cell.p, cell.q)
    assert np.isnan(values).all()
    assert found["b", "c"].n == 10
    empty = row(4).where(np.zeros(4, dtype=bool))
    assert cells(empty)["a", "b"].n == 0


# --- aggregation --------------------------------------------------------------------------------------------


def test_every_number_of_a_cell_by_a_loop() -> None:
    every, scale = row(25, seed=3), {"a": 1.7, "b": 0.9, "c": 2.1}
    found = cells(every, scale=scale)
    n = 25
    counts = bootstrap_counts(n, resamples=200, rng=generator(0, "bootstrap", "a"))
    signs = exchange_signs(n, draws=400, rng=generator(0, "exchange", "a"))
    for j, name in enumerate(HEADS):
        cell = found["a", name]
        down, base, null = [], [], []
        for i in range(n):
            base.append(every.base_after[i] - every.base_before[i])
            down.append(every.after[i, j] - every.before[i, j])
            null.append((every.null[i, j] - every.before[i, j]) / base[i])
        psi = [d / b for d, b in zip(down, base, strict=True)]
        assert cell.psi == pytest.approx(sum(psi) / n)
        assert cell.ratio_of_means == pytest.approx(sum(down) / sum(base))
        assert cell.median == pytest.approx(sorted(psi)[n // 2])
        logits = [
            (logit(every.after[i, j]) - logit(every.before[i, j]))
            / scale[name]
            / ((logit(every.base_after[i]) - logit(every.base_before[i])) / scale["a"])
            for i in range(n)
        ]
        assert cell.psi_logit == pytest.approx(np.mean(logits))
        means = [
            np.mean([psi[i] for i in range(n) for _ in range(int(counts[resample, i]))]) for resample in range(200)
        ]
        assert cell.ci_low == pytest.approx(np.percentile(means, 2.5))
        assert cell.ci_high == pytest.approx(np.percentile(means, 97.5))
        if name == "a":
            assert np.isnan(cell.p)
            continue
        difference = [psi[i] - null[i] for i in range(n)]
        hits = sum(
            abs(sum(signs[d, i] * difference[i] for i in range(n))) >= abs(sum(difference)) - 1e-12 for d in range(400)
        )
        beyond = abs(sum(psi)) > abs(sum(null))
        assert cell.p == ((1 + hits) / 401 if beyond else 1.0)


def test_q_is_over_all_cells_off_the_diagonal() -> None:
    found = cells(row(12), row(12, base="b", seed=1), row(12, base="c", seed=2))
    p = {key: cell.p for key, cell in found.items() if key[0] != key[1]}
    assert len(p) == 6
    order = sorted(p, key=lambda key: p[key])
    for rank, key in enumerate(order):
        expected = min(1.0, *(6 * p[other] / (place + 1) for place, other in enumerate(order) if place >= rank), 1.0)
        assert found[key].q == pytest.approx(expected)
    assert all(np.isnan(found[h, h].q) for h in HEADS)


def test_a_head_is_aligned_with_itself() -> None:
    found = cells(row(), scale=dict.fromkeys(HEADS, 1.3))
    cell = found["a", "a"]
    for value in (cell.psi, cell.ratio_of_means, cell.median, cell.psi_logit, cell.ci_low, cell.ci_high):
        assert value == pytest.approx(1.0)


@given(st.floats(-3, 3), st.floats(-1, 1))
def test_a_downstream_head_that_is_scaled_scales_its_cells(factor: float, constant: float) -> None:
    every = row(15)

    def scaled(values: Floats) -> Floats:
        return np.column_stack([values[:, 0], values[:, 1], factor * values[:, 1] + constant])

    found = cells(replace(every, before=scaled(every.before), after=scaled(every.after), null=scaled(every.null)))
    one, other = found["a", "b"], found["a", "c"]
    for name in ("psi", "ratio_of_means", "median"):
        assert getattr(other, name) == pytest.approx(factor * getattr(one, name), abs=1e-9)
    ends = sorted((factor * one.ci_low, factor * one.ci_high))
    assert (other.ci_low, other.ci_high) == pytest.approx(tuple(ends), abs=1e-9)
    if abs(factor) > 1e-3:
        assert other.p == one.p


@given(st.permutations(range(14)))
@settings(max_examples=10)
def test_order_of_images_changes_only_the_draws(order: list[int]) -> None:
    every = row(14)
    index = np.array(order)
    moved = replace(
        every,
        image=every.image[index],
        base_before=every.base_before[index],
        base_after=every.base_after[index],
        before=every.before[index],
        after=every.after[index],
        null=every.null[index],
    )
    for one, other in zip(cells(every).values(), cells(moved).values(), strict=True):
        for name in ("psi", "ratio_of_means", "median"):
            assert getattr(other, name) == pytest.approx(getattr(one, name))
        assert other.ci_low == pytest.approx(one.ci_low, abs=0.02)


def test_order_of_heads_and_of_bases_does_not_matter() -> None:
    rows = (row(12), row(12, base="b", seed=1))
    turned = tuple(
        replace(r, before=r.before[:, ::-1], after=r.after[:, ::-1], null=r.null[:, ::-1]) for r in rows[::-1]
    )
    one, other = cells(*rows), cells(*turned, heads=HEADS[::-1])
    for key, cell in one.items():
        for name in ("psi", "ratio_of_means", "median", "ci_low", "ci_high", "p", "q"):
            assert getattr(other[key], name) == pytest.approx(getattr(cell, name), abs=1e-12, nan_ok=True)


def test_names_of_heads_only_name() -> None:
    renamed = alignment([replace(row(), base="x")], ("x", "y", "z"), logit_scale={}, options=FEW)
    assert [(c.base, c.downstream) for c in renamed] == [("x", "x"), ("x", "y"), ("x", "z")]
    for one, other in zip(cells(row()).values(), renamed, strict=True):
        assert (one.psi, one.ratio_of_means, one.median) == (other.psi, other.ratio_of_means, other.median)


def test_the_same_seed_gives_the_same_numbers() -> None:
    one, other = (alignment([row()], HEADS, logit_scale=dict.fromkeys(HEADS, 1.0), options=FEW, seed=4) for _ in "ab")
    assert [repr(c) for c in one] == [repr(c) for c in other]
    third = alignment([row()], HEADS, logit_scale={}, options=FEW, seed=5)
    assert third[1].ci_low != one[1].ci_low


def test_a_composition_that_leaves_the_unit_interval_has_no_logit() -> None:
    every = row(8, base_before=np.full(8, 1.2), base_after=np.full(8, 0.6))
    found = cells(every, scale=dict.fromkeys(HEADS, 1.0))
    assert np.isnan(found["a", "b"].psi_logit)
    assert np.isfinite(found["a", "b"].psi)
    assert np.isnan(cells(row(8))["a", "b"].psi_logit)  # no scale is known


def test_saturated_scores_have_finite_logits() -> None:
    every = row(6, base_before=np.ones(6), base_after=np.full(6, 0.4))
    assert np.isfinite(cells(every, scale=dict.fromkeys(HEADS, 1.0))["a", "b"].psi_logit)


# --- closed form --------------------------------------------------------------------------------------------


def test_psi_on_logits_is_known_in_a_linear_world() -> None:
    """ψ on standardised logits is aᵢ·aⱼ / ‖aᵢ‖² · σᵢ / σⱼ for every image, hence for the mean; 1 on the diagonal."""
    vectors = directions(3, overlap=0.35, gain=8.0) * np.array([[1.0], [0.7], [1.2]])
    clf = LinearClassifier(vectors, (1.0, 0.8, 0.9), HEADS)
    table = panel([clf[h] for h in HEADS], [])
    rows = measured_rows(linear_images(60), table, HEADS)
    scale = {"a": 1.5, "b": 0.8, "c": 2.0}
    for cell in alignment(rows, HEADS, logit_scale=scale, options=FEW):
        a, b = vectors[HEADS.index(cell.base)], vectors[HEADS.index(cell.downstream)]
        expected = a @ b / (a @ a) * scale[cell.base] / scale[cell.downstream]
        assert cell.n > 20
        assert cell.psi_logit == pytest.approx(expected, abs=1e-8)
    for each in rows:
        i = HEADS.index(each.base)
        used, _ = usable(each, min_base_change=0.3)
        move = (logit(used.base_after) - logit(used.base_before))[:, None] * (
            vectors @ vectors[i] / (vectors[i] @ vectors[i])
        )
        expected_after = expit(logit(used.before) + move)
        np.testing.assert_allclose(used.after, expected_after, atol=1e-10)


# --- planted truth ------------------------------------------------------------------------------------------


def _noise_rows(seed: int, *, spread: float, shift: float = 0.0, n: int = 40, heads: int = 10) -> Row:
    """Heads that respond with mean ``shift`` to the counterfactual; the control has ``spread`` times its noise."""
    rng = np.random.default_rng(seed)
    before = np.full((n, heads + 1), 0.5)
    after = before + np.column_stack([np.full(n, -0.6), -0.6 * (shift + 0.1 * rng.normal(size=(n, heads)))])
    null = before + np.column_stack([np.zeros(n), -0.6 * spread * 0.1 * rng.normal(size=(n, heads))])
    return Row(
        "base", np.arange(n, dtype=np.int64), (Outcome.REACHED,) * n, before[:, 0], after[:, 0], before, after, null
    )


NOISE_HEADS = ("base", *(f"h{i}" for i in range(10)))


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_heads_that_do_not_follow_are_flagged_as_seldom_as_the_p_value_says(spread: float) -> None:
    """Also where a random direction hardly moves a head at all, as in real latents."""
    p = []
    for seed in range(60):
        found = alignment([_noise_rows(seed, spread=spread)], NOISE_HEADS, logit_scale={}, options=FEW, seed=seed)
        p += [cell.p for cell in found[1:]]
    assert np.mean(np.array(p) < 0.05) < 0.075
    assert np.mean(np.array(p) < 0.2) < 0.25
    assert np.mean(np.array(p) < 0.01) < 0.025


def test_heads_that_follow_are_found() -> None:
    p = []
    for seed in range(10):
        each = _noise_rows(seed, spread=0.3, shift=0.1)
        found = alignment([each], NOISE_HEADS, logit_scale={}, options=AlignmentOptions(), seed=seed)
        p += [cell.q for cell in found[1:]]
        assert all(cell.ci_low > 0 for cell in found[1:])
    assert max(p) < 0.01


def test_a_head_that_falls_as_far_in_a_random_direction_is_not_flagged() -> None:
    each = _noise_rows(0, spread=0.3, shift=0.1)
    fallen = replace(each, null=each.before - 0.6 * 0.12)
    found = alignment([fallen], NOISE_HEADS, logit_scale={}, options=FEW)
    assert min(cell.p for cell in found[1:]) > 0.5


def test_a_control_that_is_not_finite_counts_as_no_movement() -> None:
    each = row(12)
    null = each.null.copy()
    null[:, 1] = np.nan
    still = replace(each, null=np.where(np.isnan(null), each.before, null))
    assert cells(replace(each, null=null))["a", "b"].p == cells(still)["a", "b"].p < 0.02


@pytest.mark.parametrize(
    "wrong", [{"min_base_change": 0.0}, {"min_base_change": 1.0}, {"resamples": 50}, {"draws": 10}]
)
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        AlignmentOptions(**wrong)
