"""Incoming alignment and its unmixing against other ways of computing them, and against planted mixtures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfalign.alignment import Row, usable
from cfalign.composition import panel
from cfalign.effects import EffectOptions, Sums, effects, incoming, mixing, unmix, unmix_sparsely
from cfalign.errors import BadInput
from cfalign.results import Effect, Floats, Outcome
from cfalign.statistics import bootstrap_counts, exchange_signs, generator
from linear_world import LinearClassifier, Mixture, directions, linear_images, measured_rows

FEW = EffectOptions(resamples=150, draws=300)
ATTRIBUTES = ("a", "b", "c", "d")
HEADS = (*ATTRIBUTES, "audited")


def row_of(base: str, *, n: int = 30, seed: int = 0, drawn_from: int = 50, n_heads: int = 5) -> Row:
    """Counterfactuals of one attribute that also move the others, on some of the images."""
    rng = np.random.default_rng([seed, ATTRIBUTES.index(base)])
    image = np.sort(rng.choice(drawn_from, size=n, replace=False)).astype(np.int64)
    before = rng.uniform(0.6, 0.95, size=(n, n_heads))
    change = -rng.uniform(0.0, 0.3, size=(n, n_heads))
    column = ATTRIBUTES.index(base)
    change[:, column] = -rng.uniform(0.4, 0.6, size=n)
    after = before + change
    null = before + rng.normal(0, 0.02, size=before.shape)
    return Row(base, image, (Outcome.REACHED,) * n, before[:, column], after[:, column], before, after, null)


ROWS = [row_of(base) for base in ATTRIBUTES]


def run(rows: list[Row], audited: tuple[str, ...] = ("audited",), heads: tuple[str, ...] = HEADS, **how: Any) -> Any:
    options = how.pop("options", FEW)
    found = effects(rows, heads, audited, outgoing=how.pop("outgoing", {}), options=options, **how)
    return {(e.audited, e.attribute): e for e in found}


# --- the algebra --------------------------------------------------------------------------------------------


@given(st.integers(0, 50), st.floats(1e-3, 2.0), st.integers(1, 6), st.integers(1, 3))
def test_unmixing_by_augmented_least_squares(seed: int, ridge: float, k: int, a: int) -> None:
    """min ‖Ψe − r‖² + ρ‖e‖² is the plain least-squares problem with √ρ·I and zeros appended."""
    rng = np.random.default_rng(seed)
    psi = rng.normal(size=(k, k)) * 0.4 + np.eye(k)
    responses = rng.normal(size=(k, a))
    tall = np.concatenate([psi, np.sqrt(ridge) * np.eye(k)])
    padded = np.concatenate([responses, np.zeros((k, a))])
    expected = np.linalg.lstsq(tall, padded, rcond=None)[0]
    np.testing.assert_allclose(unmix(psi, responses, ridge=ridge), expected, atol=1e-8)
    stacked = unmix(np.stack([psi, 2 * psi]), np.stack([responses, responses]), ridge=ridge)
    np.testing.assert_allclose(stacked[0], expected, atol=1e-8)


def test_unmixing_without_penalty_inverts_the_mixing() -> None:
    rng = np.random.default_rng(0)
    psi, truth = np.eye(5) + 0.3 * rng.normal(size=(5, 5)), rng.normal(size=(5, 2))
    np.testing.assert_allclose(unmix(psi, psi @ truth, ridge=1e-12), truth, atol=1e-6)
    small = unmix(psi, psi @ truth, ridge=10.0)
    assert (np.linalg.norm(small, axis=0) < np.linalg.norm(truth, axis=0)).all()


@given(st.integers(0, 30))
def test_ratios_of_summed_changes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference, audited = rng.uniform(0.5, 2.0, size=(3, 4, 4)), rng.normal(size=(3, 4, 2))
    sums = Sums(reference, audited)
    psi, raw = mixing(sums), incoming(sums)
    for s in range(3):
        for b in range(4):
            assert psi[s, b, b] == 1.0
            np.testing.assert_allclose(psi[s, b], reference[s, b] / reference[s, b, b])
            np.testing.assert_allclose(raw[s, b], audited[s, b] / reference[s, b, b])


# --- every number by a loop ---------------------------------------------------------------------------------


def solved(psi: Floats, responses: Floats, ridge: float) -> Floats:
    k = len(psi)
    tall = np.concatenate([psi, np.sqrt(ridge) * np.eye(k)])
    return np.linalg.lstsq(tall, np.concatenate([responses, np.zeros(k)]), rcond=None)[0]


def solved_sparsely(psi: Floats, responses: Floats, sparsity: float) -> Floats:
    """The lasso by proximal gradient steps, far slower than coordinate descent."""
    length = 1.0 / np.linalg.norm(psi, 2) ** 2
    effect = np.zeros(psi.shape[1])
    for _ in range(1500):
        moved = effect - length * psi.T @ (psi @ effect - responses)
        effect = np.sign(moved) * np.maximum(np.abs(moved) - length * sparsity, 0)
    return effect


def by_hand(rows: list[Row], column: int, weight: Any) -> Floats:
    """Effects of all attributes on a head when image i of row r counts weight(r, i) times."""
    k = len(rows)
    psi, response = np.zeros((k, k)), np.zeros(k)
    columns = [HEADS.index(row.base) for row in rows]
    for b, row in enumerate(rows):
        total = np.zeros(len(HEADS))
        for i in range(len(row)):
            total += weight(b, i) * (row.after[i] - row.before[i])
        if total[columns[b]] == 0:
            continue  # no image of this attribute was drawn
        psi[b], response[b] = total[columns] / total[columns[b]], total[column] / total[columns[b]]
    return solved_sparsely(psi, response, FEW.sparsity)


def test_effects_intervals_and_p_values_by_a_loop() -> None:
    found = run(ROWS, seed=7)
    point = by_hand(ROWS, 4, lambda b, i: 1.0)
    images = sorted({int(i) for row in ROWS for i in row.image})
    counts = bootstrap_counts(len(images), resamples=150, rng=generator(7, "effects"))
    drawn = [by_hand(ROWS, 4, lambda b, i, c=c: c[images.index(int(ROWS[b].image[i]))]) for c in counts]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    signs = exchange_signs(len(images), draws=300, rng=generator(7, "effects exchange"))
    psi = np.array([[r.after[:, c].sum() - r.before[:, c].sum() for c in range(4)] for r in ROWS])
    base = np.diag(psi).copy()
    psi /= base[:, None]
    p = exchange_by_hand(ROWS, psi, base, images, signs)
    q_of = np.array([found["audited", a].q for a in ATTRIBUTES])
    order = np.argsort(p)
    for rank, k in enumerate(order):
        assert q_of[k] == pytest.approx(min(1.0, *(4 * p[order[j]] / (j + 1) for j in range(rank, 4)), 1.0))
    for k, attribute in enumerate(ATTRIBUTES):
        effect = found["audited", attribute]
        change = ROWS[k].after - ROWS[k].before
        assert effect.effect == pytest.approx(point[k], abs=1e-5)
        assert effect.incoming == pytest.approx(change[:, 4].sum() / change[:, k].sum())
        assert (effect.ci_low, effect.ci_high) == pytest.approx((low[k], high[k]))
        assert effect.n == 30
        assert np.isnan(effect.outgoing)


def exchange_by_hand(rows: list[Row], psi: Floats, base: Floats, images: list[int], signs: Floats) -> Floats:
    """Counterfactual and control of an image change places in all rows at once."""

    def effect(of: Any) -> Floats:
        response = np.zeros(len(rows))
        for b, row in enumerate(rows):
            response[b] = sum(of(row, i) for i in range(len(row))) / base[b]
        return solved(psi, response, FEW.ridge)

    ours = effect(lambda row, i: row.after[i, 4] - row.before[i, 4])
    control = effect(lambda row, i: row.null[i, 4] - row.before[i, 4])
    hits = np.zeros(len(rows))
    for sign in signs:
        at = dict(zip(images, sign, strict=True))
        exchanged = effect(lambda row, i, at=at: at[int(row.image[i])] * (row.after[i, 4] - row.null[i, 4]))
        hits += np.abs(exchanged) >= np.abs(ours - control) - 1e-12
    return np.where(np.abs(ours) > np.abs(control), (1 + hits) / (1 + len(signs)), 1.0)


# --- who explains whom --------------------------------------------------------------------------------------


def test_a_head_does_not_explain_itself() -> None:
    """Audited against its own classifier, a head is left out of its attributes."""
    found = run(ROWS, audited=("a", "audited"))
    assert {attribute for audited, attribute in found if audited == "a"} == {"b", "c", "d"}
    assert {attribute for audited, attribute in found if audited == "audited"} == set(ATTRIBUTES)
    without = by_hand(ROWS[1:], 0, lambda b, i: 1.0)
    np.testing.assert_allclose([found["a", x].effect for x in "bcd"], without, atol=1e-5)
    q = [e.q for e in found.values()]
    assert len(q) == 7
    assert all(0 < value <= 1 for value in q)


def test_audited_heads_do_not_disturb_one_another() -> None:
    def wider(values: Floats) -> Floats:
        return np.column_stack([values, values[:, 0]])

    rows = [replace(r, before=wider(r.before), after=wider(r.after), null=wider(r.null)) for r in ROWS]
    both = run(rows, audited=("audited", "more"), heads=(*HEADS, "more"))
    alone = run(rows, heads=(*HEADS, "more"))
    for attribute in ATTRIBUTES:
        one, other = alone["audited", attribute], both["audited", attribute]
        assert (one.effect, one.ci_low, one.ci_high) == pytest.approx((other.effect, other.ci_low, other.ci_high))


def test_an_attribute_without_counterfactuals_is_listed_without_numbers() -> None:
    empty = ROWS[2].where(np.zeros(len(ROWS[2]), dtype=bool))
    found = run([ROWS[0], ROWS[1], empty, ROWS[3]])
    missing = found["audited", "c"]
    assert missing.n == 0
    assert np.isnan((missing.effect, missing.ci_low, missing.ci_high, missing.incoming, missing.q)).all()
    rest = by_hand([ROWS[0], ROWS[1], ROWS[3]], 4, lambda b, i: 1.0)
    np.testing.assert_allclose([found["audited", a].effect for a in "abd"], rest, atol=1e-5)
    assert all(np.isnan(e.effect) for e in run([empty]).values())
    assert run([]) == {}


def test_the_outgoing_reading_stands_beside() -> None:
    found = run(ROWS, outgoing={("audited", "b"): 0.25, ("b", "audited"): 9.0})
    assert found["audited", "b"].outgoing == 0.25
    assert np.isnan(found["audited", "a"].outgoing)


# --- changes that must not matter ---------------------------------------------------------------------------


def values(effect: Effect) -> tuple[float, ...]:
    return (effect.effect, effect.ci_low, effect.ci_high, effect.incoming, effect.q)


def test_order_of_attributes_heads_and_names_does_not_matter() -> None:
    one = run(ROWS)
    for key, effect in run(ROWS[::-1]).items():
        assert values(effect) == pytest.approx(values(one[key]))
    flip = [replace(r, before=r.before[:, ::-1], after=r.after[:, ::-1], null=r.null[:, ::-1]) for r in ROWS]
    for key, effect in run(flip, heads=HEADS[::-1]).items():
        assert values(effect) == pytest.approx(values(one[key]))
    named = run([replace(r, base=f"x_{r.base}") for r in ROWS], heads=(*(f"x_{a}" for a in ATTRIBUTES), "audited"))
    for (_, attribute), effect in named.items():
        assert values(effect) == pytest.approx(values(one["audited", attribute.removeprefix("x_")]))


@settings(max_examples=8)
@given(st.floats(-3, 3).filter(lambda f: abs(f) > 0.01))
def test_a_scaled_audited_head_scales_its_effects(factor: float) -> None:
    def scaled(values: Floats) -> Floats:
        return np.column_stack([values[:, :4], factor * values[:, 4] + 0.1])

    rows = [replace(r, before=scaled(r.before), after=scaled(r.after), null=scaled(r.null)) for r in ROWS]
    one = run(ROWS)
    other = run(rows, options=replace(FEW, sparsity=abs(factor) * FEW.sparsity))
    for key in one:
        assert other[key].effect == pytest.approx(factor * one[key].effect, abs=1e-5)
        assert other[key].incoming == pytest.approx(factor * one[key].incoming)
        ends = sorted((factor * one[key].ci_low, factor * one[key].ci_high))
        assert (other[key].ci_low, other[key].ci_high) == pytest.approx(tuple(ends), abs=1e-4)
        assert other[key].q == pytest.approx(one[key].q)


# --- planted truth ------------------------------------------------------------------------------------------


def planted(shares: tuple[float, ...], *, rest: float, seed: int = 0) -> tuple[dict[Any, Effect], Floats]:
    """An audited head that is Σ share·attribute exactly, seen through counterfactuals that move them all."""
    reference = LinearClassifier(directions(4, overlap=0.55, gain=9.0), (0.3, 0.2, 0.4, 0.1), ATTRIBUTES)
    audited = Mixture(reference, shares, rest)
    table = panel([reference[t] for t in ATTRIBUTES], [("mixture", audited["mixture"])])
    rows = measured_rows(linear_images(80, seed=seed), table, ATTRIBUTES, seed=seed)
    used = [usable(row, min_base_change=0.3)[0] for row in rows]
    options = EffectOptions(ridge=1e-6, sparsity=1e-6, resamples=300, draws=500)
    found = effects(used, table.labels, ("mixture",), outgoing={}, options=options, seed=seed)
    return {e.attribute: e for e in found}, np.array(shares)


@pytest.mark.parametrize("shares", [(0.7, 0.0, 0.0, 0.2), (0.5, -0.3, 0.0, 0.0), (0.0, 0.0, 0.85, 0.0)])
def test_unmixing_recovers_a_planted_mixture_that_raw_alignment_gets_wrong(shares: tuple[float, ...]) -> None:
    found, truth = planted(shares, rest=0.05 + max(0.0, -min(shares)))
    effect = np.array([found[a].effect for a in ATTRIBUTES])
    raw = np.array([found[a].incoming for a in ATTRIBUTES])
    np.testing.assert_allclose(effect, truth, atol=1e-3)
    assert np.abs(raw - truth).max() > 0.1
    for a, share in zip(ATTRIBUTES, shares, strict=True):
        assert found[a].ci_low - 1e-3 <= share <= found[a].ci_high + 1e-3
        assert found[a].n > 20
        if abs(share) > 0.25:
            assert found[a].q < 0.01


def test_the_default_ridge_is_close() -> None:
    shares = (0.7, 0.0, 0.0, 0.2)
    reference = LinearClassifier(directions(4, overlap=0.3, gain=9.0), (0.3, 0.2, 0.4, 0.1), ATTRIBUTES)
    audited = Mixture(reference, shares, 0.05)
    table = panel([reference[t] for t in ATTRIBUTES], [("mixture", audited["mixture"])])
    rows = [usable(r, min_base_change=0.3)[0] for r in measured_rows(linear_images(80), table, ATTRIBUTES)]
    found = effects(rows, table.labels, ("mixture",), outgoing={}, options=EffectOptions())
    np.testing.assert_allclose([e.effect for e in found], shares, atol=0.08)


def test_a_head_that_uses_none_of_the_attributes_has_no_effects() -> None:
    """It reads latents that no attribute reads, so every counterfactual leaves it alone."""
    reference = LinearClassifier(directions(4, overlap=0.5), (0.3, 0.2, 0.4, 0.1), ATTRIBUTES)
    own = np.zeros((1, 8))
    own[0, 6] = 8.0
    audited = LinearClassifier(own, (0.2,), ("audited",), name="audited")
    table = panel([reference[t] for t in ATTRIBUTES], [("audited", audited["audited"])])
    rows = [usable(r, min_base_change=0.3)[0] for r in measured_rows(linear_images(60), table, ATTRIBUTES)]
    found = effects(rows, table.labels, ("audited",), outgoing={}, options=FEW)
    assert max(abs(e.effect) for e in found) < 1e-9
    assert min(e.q for e in found) == 1.0


def noise_row(base: int, rng: np.random.Generator, noise: Floats, *, off: float, spread: float, use: float) -> Row:
    n = len(noise)
    before = np.full((n, 5), 0.5)
    change = -0.6 * (np.eye(4)[base] + off * (1 - np.eye(4)[base])) + 0.02 * rng.normal(size=(n, 4))
    response = use * change[:, :1] + noise[:, None]
    after = before + np.column_stack([change, response])
    null = before + 0.1 * spread * rng.normal(size=before.shape)
    return Row(
        ATTRIBUTES[base], np.arange(n, dtype=np.int64), (Outcome.REACHED,) * n, before[:, base], after[:, base],
        before, after, null,
    )  # fmt: skip


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("off", "spread"), [(0.0, 0.1), (0.4, 1.0), (-0.25, 0.1)])
def test_effects_that_are_not_there_are_flagged_as_seldom_as_the_p_value_says(
    shared: bool, off: float, spread: float
) -> None:
    """Also where an image's noise is the same in every row, and where a random direction hardly moves the head."""
    flagged = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        common = 0.1 * rng.normal(size=40)
        rows = [
            noise_row(k, rng, common if shared else 0.1 * rng.normal(size=40), off=off, spread=spread, use=0.0)
            for k in range(4)
        ]
        options = EffectOptions(resamples=100, draws=200)
        # One attribute's q is its p, for there is no other: q over four is at least that.
        found = run(rows, options=options, seed=seed)
        flagged.append(min(e.q for e in found.values()) < 0.05)
    assert np.mean(flagged) < 0.12


def test_effects_that_are_there_are_found_through_the_noise() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows = [noise_row(k, rng, 0.1 * rng.normal(size=40), off=0.4, spread=0.3, use=0.4) for k in range(4)]
        found = run(rows, seed=seed, options=EffectOptions(ridge=0.01, resamples=300))
        used = found["audited", "a"]
        assert used.q < 0.01
        assert used.ci_low > 0.2
        assert used.effect == pytest.approx(0.4, abs=0.1)
        assert all(abs(found["audited", other].effect) < 0.12 for other in "bcd")


def test_intervals_cover_the_planted_effect() -> None:
    hits = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        common = 0.1 * rng.normal(size=40)
        rows = [noise_row(k, rng, common, off=0.3, spread=0.3, use=0.4) for k in range(4)]
        found = run(rows, seed=seed, options=EffectOptions(ridge=1e-4, resamples=200, draws=100))
        hits += [e.ci_low <= (0.4 if e.attribute == "a" else 0.0) <= e.ci_high for e in found.values()]
    assert 0.86 < np.mean(hits) <= 1.0


@pytest.mark.parametrize("ridge", [0.0, -1.0, float("nan")])
def test_a_penalty_of_nothing_is_refused(ridge: float) -> None:
    with pytest.raises(BadInput, match="ridge"):
        EffectOptions(ridge=ridge)


def test_without_a_penalty_unmixing_is_exact_and_with_a_large_one_it_is_zero() -> None:
    rng = np.random.default_rng(3)
    psi = np.eye(5) + 0.3 * rng.uniform(-1, 1, size=(5, 5))
    responses = rng.normal(size=(5, 2))
    np.testing.assert_allclose(unmix_sparsely(psi, responses, sparsity=0.0), np.linalg.solve(psi, responses), atol=1e-5)
    assert not unmix_sparsely(psi, responses, sparsity=1e3).any()


@given(st.integers(0, 60), st.floats(1e-3, 0.5), st.integers(1, 8))
def test_sparse_unmixing_meets_the_conditions_of_a_minimum(seed: int, sparsity: float, k: int) -> None:
    """|Ψ'(Ψe − r)| is at most the penalty, and equal to it, against the sign, wherever e is not 0."""
    rng = np.random.default_rng(seed)
    psi = 0.15 * rng.normal(size=(k, k))
    np.fill_diagonal(psi, 1.0)
    responses = 0.5 * rng.normal(size=(k, 2))
    effect = unmix_sparsely(psi, responses, sparsity=sparsity)
    slope = psi.T @ (psi @ effect - responses)
    assert (np.abs(slope) <= sparsity + 1e-5).all()
    there = effect != 0
    np.testing.assert_allclose(slope[there], -sparsity * np.sign(effect[there]), atol=1e-5)
    stacked = unmix_sparsely(np.stack([psi, 2 * psi]), np.stack([responses, responses]), sparsity=sparsity)
    np.testing.assert_allclose(stacked[0], effect, atol=1e-6)


def test_without_a_penalty_also_where_attributes_are_alike() -> None:
    """Attributes that move together: descent by coordinates would still be far off after its sweeps."""
    psi = np.full((6, 6), 0.97) + 0.03 * np.eye(6)
    truth = np.array([[0.5], [-0.3], [0.0], [0.0], [0.0], [0.2]])
    both = np.stack([psi, np.eye(6)]), np.stack([psi @ truth, truth])
    np.testing.assert_allclose(unmix_sparsely(*both, sparsity=0.0), np.stack([truth, truth]), atol=1e-9)


@pytest.mark.parametrize("sparsity", [0.0, 0.04])
def test_a_resample_without_an_attribute_is_no_failure(sparsity: float) -> None:
    """Its row and column of Ψ are 0, and so is its effect."""
    rng = np.random.default_rng(3)
    psi, responses = np.eye(4) + 0.1 * rng.normal(size=(4, 4)), rng.normal(size=(4, 1))
    psi[2], psi[:, 2], responses[2] = 0, 0, 0
    effect = unmix_sparsely(psi, responses, sparsity=sparsity)
    assert np.isfinite(effect).all()
    assert effect[2, 0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shares", [(0.7, 0.0, 0.0, 0.2), (0.5, -0.3, 0.0, 0.0), (0.0, 0.0, 0.85, 0.0)])
def test_the_penalty_shrinks_a_planted_mixture_by_as_much_as_it_says(shares: tuple[float, ...]) -> None:
    """Used attributes lose sparsity · (Ψ'Ψ)⁻¹ sign(e) over themselves; the others stay exactly 0."""
    truth = np.array(shares)
    psi = np.full((4, 4), 0.5) + 0.5 * np.eye(4)
    effect = unmix_sparsely(psi, (psi @ truth)[:, None], sparsity=0.04)[:, 0]
    used = np.flatnonzero(truth)
    shrinkage = np.linalg.solve(psi[:, used].T @ psi[:, used], 0.04 * np.sign(truth[used]))
    np.testing.assert_allclose(effect[used], truth[used] - shrinkage, atol=1e-5)
    assert (np.delete(effect, used) == 0).all()


@pytest.mark.parametrize("sparsity", [-1.0, float("nan")])
def test_a_negative_sparsity_is_refused(sparsity: float) -> None:
    with pytest.raises(BadInput, match="sparsity"):
        EffectOptions(sparsity=sparsity)


def test_the_penalty_finds_few_causes_where_ridge_spreads_them() -> None:
    """Two attributes that move together, one of which the head uses."""
    psi = np.array([[1.0, 0.95, 0.0], [0.95, 1.0, 0.0], [0.0, 0.0, 1.0]])
    responses = psi @ np.array([[0.5], [0.0], [0.0]])
    sparse = unmix_sparsely(psi, responses, sparsity=0.04)[:, 0]
    spread = unmix(psi, responses, ridge=0.05)[:, 0]
    assert sparse[0] > 0.4
    assert abs(sparse[1]) < 0.02 < 0.1 < spread[1]
    gradient = psi.T @ (psi @ sparse - responses[:, 0])  # the conditions of Karush, Kuhn and Tucker
    assert (np.abs(gradient) <= 0.04 + 1e-6).all()
    np.testing.assert_allclose(gradient[sparse != 0], -0.04 * np.sign(sparse[sparse != 0]), atol=1e-6)
