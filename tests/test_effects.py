"""Incoming alignment and its unmixing against other ways of computing them, and against planted mixtures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfalign._analysis.alignment import Row, usable
from cfalign._analysis.effects import effects
from cfalign._analysis.options import EffectOptions
from cfalign._analysis.statistics import exchange_signs, generator, horseshoe
from cfalign._analysis.unmixing import responses, unmix
from cfalign._errors import BadInput
from cfalign._heads.panel import panel
from cfalign._results import Effect, Floats, Outcome
from linear_world import LinearClassifier, Mixture, directions, linear_images, measured_rows

FEW = EffectOptions(samples=400, draws=300)
MANY = replace(FEW, samples=4000)
CHANCE = 0.02
"""How far two posterior means may differ because other random numbers were drawn."""
ATTRIBUTES = ("a", "b", "c", "d")
HEADS = (*ATTRIBUTES, "audited")


def row_of(
    base: str, *, n: int = 30, seed: int = 0, drawn_from: int = 50, n_heads: int = 5, raised: bool = False
) -> Row:
    """Counterfactuals of one attribute that also move the others, on some of the images."""
    rng = np.random.default_rng([seed, ATTRIBUTES.index(base), int(raised)])
    image = np.sort(rng.choice(drawn_from, size=n, replace=False)).astype(np.int64)
    before = rng.uniform(0.05, 0.4, size=(n, n_heads)) if raised else rng.uniform(0.6, 0.95, size=(n, n_heads))
    change = rng.uniform(0.0, 0.3, size=(n, n_heads)) * (1 if raised else -1)
    column = ATTRIBUTES.index(base)
    change[:, column] = rng.uniform(0.4, 0.6, size=n) * (1 if raised else -1)
    after = before + change
    null = before + rng.normal(0, 0.02, size=before.shape)
    return Row(base, image, (Outcome.REACHED,) * n, before[:, column], after[:, column], before, after, null)


ROWS = [row_of(base) for base in ATTRIBUTES]
BOTH = [*ROWS, *(row_of(base, n=20 + 3 * k, raised=True) for k, base in enumerate(ATTRIBUTES))]
"""Lowered and raised."""


def run(rows: list[Row], audited: tuple[str, ...] = ("audited",), heads: tuple[str, ...] = HEADS, **how: Any) -> Any:
    options = how.pop("options", FEW)
    found = effects(rows, heads, audited, outgoing=how.pop("outgoing", {}), options=options, **how).effects
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


def test_ratios_of_summed_changes() -> None:
    """Every row by the change of its own head, whichever way that went and whoever watches."""
    found = responses(BOTH, HEADS, ("a", "audited", "c", "d"), ("audited", "b"))
    assert found.mixing.shape == (8, 4)
    assert found.audited.shape == (8, 2)
    for k, row in enumerate(BOTH):
        total = [sum(row.after[i, c] - row.before[i, c] for i in range(len(row))) for c in range(5)]
        own = total[HEADS.index(row.base)]
        np.testing.assert_allclose(found.mixing[k], [total[c] / own for c in (0, 4, 2, 3)])
        np.testing.assert_allclose(found.audited[k], [total[c] / own for c in (4, 1)])
    np.testing.assert_array_equal([found.mixing[k, k % 4] for k in (0, 2, 3, 4, 6, 7)], 1.0)


# --- every number by a loop ---------------------------------------------------------------------------------


def solved(psi: Floats, responses: Floats, ridge: float) -> Floats:
    k = psi.shape[1]
    tall = np.concatenate([psi, np.sqrt(ridge) * np.eye(k)])
    return np.linalg.lstsq(tall, np.concatenate([responses, np.zeros(k)]), rcond=None)[0]


def by_hand(rows: list[Row], column: int, seed: int, watched: dict[str, str] | None = None) -> Floats:
    """Mean and interval of the effects of all attributes on a head, [3, attribute]."""
    names = list(dict.fromkeys(row.base for row in rows))
    columns = [HEADS.index((watched or {}).get(name, name)) for name in names]
    own = [HEADS.index(row.base) for row in rows]
    psi, response, weight = np.zeros((len(rows), len(names))), np.zeros(len(rows)), np.zeros(len(rows))
    changes = []
    for b, row in enumerate(rows):
        changes.append([row.after[i] - row.before[i] for i in range(len(row))])
        total = sum(changes[b])
        psi[b], response[b] = total[columns] / total[own[b]], total[column] / total[own[b]]
    rough = solved(psi, response, FEW.ridge)
    for b in range(len(rows)):
        beyond = [change[column] - change[columns] @ rough for change in changes[b]]
        mean = sum(beyond) / len(beyond)
        spread = sum((x - mean) ** 2 for x in beyond) / (len(beyond) - 1)
        spread *= len(beyond) / sum(change[own[b]] for change in changes[b]) ** 2
        weight[b] = FEW.misfit**2 / (FEW.misfit**2 + spread)
    drawn = horseshoe(
        psi[None],
        response[None],
        weight[None],
        noise=FEW.misfit,
        noise_weight=FEW.misfit_weight,
        samples=FEW.samples,
        streams=[generator(seed, "effects", HEADS[column])],
    )[:, 0]
    mean = drawn.mean(axis=0)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    error = 1.96 * FEW.switch_error * mean  # adds to either half of the interval as independent errors do
    ends = [mean - np.sqrt((mean - low) ** 2 + error**2), mean + np.sqrt((high - mean) ** 2 + error**2)]
    return np.clip(np.stack([mean, *ends]), -1, 1)  # no probability changes by more


@pytest.mark.parametrize("rows", [ROWS, BOTH], ids=["lowered", "both ways"])
@pytest.mark.parametrize("watched", [{}, {"b": "c", "d": "audited"}], ids=["own", "watched"])
def test_effects_intervals_and_p_values_by_a_loop(rows: list[Row], watched: dict[str, str]) -> None:
    found = run(rows, seed=7, witnesses=watched)
    point, low, high = by_hand(rows, 4, 7, watched)
    images = sorted({int(i) for row in rows for i in row.image})
    signs = exchange_signs(len(images), draws=300, rng=generator(7, "effects exchange"))
    columns = [HEADS.index(watched.get(a, a)) for a in ATTRIBUTES]
    p = exchange_by_hand(rows, columns, point, images, signs)
    q_of = np.array([found["audited", a].q for a in ATTRIBUTES])
    order = np.argsort(p)
    for rank, k in enumerate(order):
        assert q_of[k] == pytest.approx(min(1.0, *(4 * p[order[j]] / (j + 1) for j in range(rank, 4)), 1.0))
    for k, attribute in enumerate(ATTRIBUTES):
        effect = found["audited", attribute]
        change = rows[k].after - rows[k].before
        assert effect.effect == pytest.approx(point[k], abs=1e-9)
        assert effect.incoming == pytest.approx(change[:, 4].sum() / change[:, k].sum())
        assert (effect.ci_low, effect.ci_high) == pytest.approx((low[k], high[k]))
        assert effect.n == sum(len(row) for row in rows if row.base == attribute)
        assert np.isnan(effect.outgoing)


def exchange_by_hand(rows: list[Row], columns: list[int], found: Floats, images: list[int], signs: Floats) -> Floats:
    """What the other attributes do not explain, counterfactual and control of an image changing places."""
    p = np.ones(len(ATTRIBUTES))
    for k, attribute in enumerate(ATTRIBUTES):
        ours, control, exchanged = 0.0, 0.0, np.zeros(len(signs))
        for row in rows:
            if row.base != attribute:
                continue
            own = HEADS.index(attribute)
            way = 1 if (row.after[:, own] - row.before[:, own]).sum() > 0 else -1
            for i in range(len(row)):
                left = []
                for scores in (row.after[i], row.null[i]):
                    change = scores - row.before[i]
                    explained = sum(found[c] * change[columns[c]] for c in range(len(columns)) if c != k)
                    left.append(way * (change[4] - explained))
                ours += left[0]
                control += left[1]
                exchanged += signs[:, images.index(int(row.image[i]))] * (left[0] - left[1])
        hits = (np.abs(exchanged) >= np.abs(ours - control) - 1e-12).sum()
        p[k] = (1 + hits) / (1 + len(signs)) if abs(ours) > abs(control) else 1.0
    return p


# --- who explains whom --------------------------------------------------------------------------------------


def test_a_head_does_not_explain_itself() -> None:
    """Audited against its own classifier, a head is left out of its attributes."""
    found = run(ROWS, audited=("a", "audited"))
    assert {attribute for audited, attribute in found if audited == "a"} == {"b", "c", "d"}
    assert {attribute for audited, attribute in found if audited == "audited"} == set(ATTRIBUTES)
    without = by_hand(ROWS[1:], 0, 0)
    for k, x in enumerate("bcd"):
        effect = found["a", x]
        np.testing.assert_allclose((effect.effect, effect.ci_low, effect.ci_high), without[:, k], atol=3 * CHANCE)
    q = [e.q for e in found.values()]
    assert len(q) == 7
    assert all(0 < value <= 1 for value in q)


def test_a_head_does_not_explain_itself_either_way() -> None:
    found = run(BOTH, audited=("a",))
    without = by_hand([r for r in BOTH if r.base != "a"], 0, 0)
    for k, x in enumerate("bcd"):
        effect = found["a", x]
        np.testing.assert_allclose((effect.effect, effect.ci_low, effect.ci_high), without[:, k], atol=3 * CHANCE)


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
    rest = by_hand([ROWS[0], ROWS[1], ROWS[3]], 4, 0)[0]
    np.testing.assert_allclose([found["audited", a].effect for a in "abd"], rest, atol=1e-9)
    assert all(np.isnan(e.effect) for e in run([empty]).values())
    assert run([]) == {}


@pytest.mark.parametrize("missing", [2, 6], ids=["raised only", "lowered only"])
def test_an_attribute_with_counterfactuals_of_one_way_only(missing: int) -> None:
    empty = BOTH[missing].where(np.zeros(len(BOTH[missing]), dtype=bool))
    rows = [empty if k == missing else row for k, row in enumerate(BOTH)]
    there = [row for k, row in enumerate(BOTH) if k != missing]
    found = run(rows, options=MANY)
    assert found["audited", "c"].n == len(BOTH[8 - missing])
    for key, effect in run(there, options=MANY).items():
        same(effect, found[key])
        assert np.isfinite((effect.effect, effect.ci_low, effect.ci_high, effect.q)).all()


def test_the_outgoing_reading_stands_beside() -> None:
    found = run(ROWS, outgoing={("audited", "b"): 0.25, ("b", "audited"): 9.0})
    assert found["audited", "b"].outgoing == 0.25
    assert np.isnan(found["audited", "a"].outgoing)


# --- changes that must not matter ---------------------------------------------------------------------------


def same(one: Effect, other: Effect, factor: float = 1.0) -> None:
    """Equal but for chance: another order, name or scale draws other random numbers."""
    ends = sorted((factor * one.ci_low, factor * one.ci_high))
    atol = CHANCE * max(1.0, abs(factor))
    assert other.effect == pytest.approx(factor * one.effect, abs=atol)
    assert (other.ci_low, other.ci_high) == pytest.approx(tuple(ends), abs=3 * atol)
    assert other.incoming == pytest.approx(factor * one.incoming)
    assert other.q == pytest.approx(one.q)


def test_order_of_attributes_heads_and_names_does_not_matter() -> None:
    one = run(ROWS, options=MANY)
    for key, effect in run(ROWS[::-1], options=MANY).items():
        same(one[key], effect)
    flip = [replace(r, before=r.before[:, ::-1], after=r.after[:, ::-1], null=r.null[:, ::-1]) for r in ROWS]
    for key, effect in run(flip, heads=HEADS[::-1], options=MANY).items():
        assert effect.effect == pytest.approx(one[key].effect, abs=1e-9)
    heads = (*(f"x_{a}" for a in ATTRIBUTES), "audited")
    named = run([replace(r, base=f"x_{r.base}") for r in ROWS], heads=heads, options=MANY)
    for (_, attribute), effect in named.items():
        assert effect.effect == pytest.approx(one["audited", attribute.removeprefix("x_")].effect, abs=1e-9)


def test_order_of_the_ways_does_not_matter() -> None:
    """All lowered rows and then the raised ones, in turns, or raised first: only ``incoming`` is that of the first."""
    one = run(BOTH, options=MANY)
    turns = [row for k in range(4) for row in (BOTH[k], BOTH[k + 4])]
    raised_first = [*BOTH[4:], *BOTH[:4]]
    for rows in (turns, raised_first):
        other = run(rows, options=MANY)
        for key in one:
            same(replace(one[key], incoming=0.0), replace(other[key], incoming=0.0))
            assert other[key].n == one[key].n
    assert run(turns)["audited", "b"].incoming == one["audited", "b"].incoming
    change = BOTH[5].after - BOTH[5].before
    assert run(raised_first)["audited", "b"].incoming == pytest.approx(change[:, 4].sum() / change[:, 1].sum())


@pytest.mark.parametrize("rows", [ROWS, BOTH], ids=["lowered", "both ways"])
def test_spans_scale_effects_and_intervals_exactly(rows: list[Row]) -> None:
    spans = {"a": 0.5, "b": 0.8, "c": 2.0}
    one, other = run(rows), run(rows, spans=spans)
    for (audited, attribute), effect in one.items():
        span, scaled = spans.get(attribute, 1.0), other[audited, attribute]
        assert (scaled.effect, scaled.ci_low, scaled.ci_high) == pytest.approx(
            (span * effect.effect, span * effect.ci_low, span * effect.ci_high), rel=1e-12
        )
        assert (scaled.incoming, scaled.n, scaled.q) == (effect.incoming, effect.n, effect.q)


@settings(max_examples=6)
@given(st.floats(-3, 3).filter(lambda f: abs(f) > 0.2))
def test_a_scaled_audited_head_scales_its_effects(factor: float) -> None:
    """With the misfit in the same scale; the priors of the effects' own scale hardly matter."""

    def scaled(values: Floats) -> Floats:
        return np.column_stack([values[:, :4], factor * values[:, 4] + 0.1])

    rows = [replace(r, before=scaled(r.before), after=scaled(r.after), null=scaled(r.null)) for r in ROWS]
    one = run(ROWS, options=MANY)
    other = run(rows, options=replace(MANY, misfit=abs(factor) * FEW.misfit))
    for key in one:
        same(one[key], other[key], factor)


def test_a_switch_error_widens_intervals_in_proportion_to_the_effect() -> None:
    found = {error: run(ROWS, options=replace(FEW, switch_error=error)) for error in (0.0, 0.1, 0.5)}
    assert {e.effect for e in found[0.0].values()} == {e.effect for e in found[0.5].values()}
    for key, exact in found[0.0].items():
        halves = [exact.effect - exact.ci_low, exact.ci_high - exact.effect]
        for error in (0.1, 0.5):
            wide = found[error][key]
            added = [(wide.effect - wide.ci_low) ** 2, (wide.ci_high - wide.effect) ** 2]
            np.testing.assert_allclose(
                np.array(added) - np.square(halves), (1.96 * error * exact.effect) ** 2, atol=1e-12
            )


def test_what_effects_carry_is_their_weighted_sum() -> None:
    """The own concept of a head does not count, nor do attributes of which nothing is known to go along."""
    rng = np.random.default_rng(3)
    together = {(b, c): 1.0 if b == c else float(rng.uniform(-0.5, 0.5)) for b in ATTRIBUTES for c in ATTRIBUTES}
    heads = (*ATTRIBUTES, "other:b")
    options = replace(FEW, switch_error=0.0)
    of = {"outgoing": {}, "options": options, "seed": 1}
    found = effects(ROWS, heads, ("other:b",), together=together, **of)
    point = {e.attribute: e.effect for e in found.effects}
    assert set(found.carried) == {("other:b", a) for a in ATTRIBUTES}
    for (_, present), (mean, low, high) in found.carried.items():
        assert mean == pytest.approx(sum(together[present, c] * point[c] for c in "acd"))
        assert low < mean < high
    alone = {key: x for key, x in together.items() if key[0] != "a"}
    some = effects(ROWS, heads, ("other:b",), together=alone, **of).carried
    assert some == {key: x for key, x in found.carried.items() if key[1] != "a"}
    assert effects(ROWS, heads, ("other:b",), **of).carried == {}
    wide = effects(
        ROWS, heads, ("other:b",), together=together, **{**of, "options": replace(options, switch_error=0.3)}
    )
    for (key, (mean, low, high)), (_, l2, h2) in zip(found.carried.items(), wide.carried.values(), strict=True):
        error = 1.96 * 0.3 * np.sqrt(sum((together[key[1], c] * point[c]) ** 2 for c in "acd"))
        assert mean - l2 == pytest.approx(np.hypot(mean - low, error))
        assert h2 - mean == pytest.approx(np.hypot(high - mean, error))


# --- planted truth ------------------------------------------------------------------------------------------


def planted(shares: tuple[float, ...], *, rest: float, seed: int = 0) -> tuple[dict[Any, Effect], Floats]:
    """An audited head that is Σ share·attribute exactly, seen through counterfactuals that move them all."""
    reference = LinearClassifier(directions(4, overlap=0.55, gain=9.0), (0.3, 0.2, 0.4, 0.1), ATTRIBUTES)
    audited = Mixture(reference, shares, rest)
    table = panel([reference[t] for t in ATTRIBUTES], [("mixture", audited["mixture"])])
    rows = measured_rows(linear_images(80, seed=seed), table, ATTRIBUTES, seed=seed)
    used = [usable(row, min_base_change=0.3)[0] for row in rows]
    options = EffectOptions(ridge=1e-6, misfit=1e-4, samples=1000, draws=500)
    found = effects(used, table.labels, ("mixture",), outgoing={}, options=options, seed=seed).effects
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


EXACT = EffectOptions(ridge=1e-6, misfit=1e-4, samples=1000, draws=200)


def both_ways(attribute: str, head: np.ndarray[Any, Any], witness: Floats, audited: Floats, switched: Floats) -> Any:
    """Rows of one attribute from scores on all images before [n, 3] and after [n, 3] it is switched there."""
    before, after = (
        np.column_stack([head[0], witness[0], audited[0]]),
        np.column_stack([head[1], witness[1], audited[1]]),
    )
    rows = []
    for way in (True, False):
        at = np.flatnonzero(switched == way)
        rows.append(
            Row(
                attribute,
                at.astype(np.int64),
                (Outcome.REACHED,) * len(at),
                before[at, 0],
                after[at, 0],
                before[at],
                after[at],
                before[at],
            )
        )
    return rows


def saturating(z: Floats, has: np.ndarray[Any, Any]) -> Floats:
    """A head that hardly rises above what the images that have the attribute already show."""
    return 1 - np.exp(-1.5 * has - 2.0 * z)


def test_the_two_ways_together_are_the_mean_over_all_images() -> None:
    """The attribute goes with what else the head sees, so switching it off moves the head less than switching it on."""
    rng = np.random.default_rng(0)
    has = np.arange(2000) % 2 == 0
    z = rng.uniform(0, 0.5, size=2000) + 0.6 * has
    exact = np.stack([has, ~has]).astype(float)
    score = np.stack([saturating(z, has), saturating(z, ~has)])
    true = float((saturating(z, np.ones(2000)) - saturating(z, np.zeros(2000))).mean())
    rows = both_ways("a", exact, exact, score, has)
    of = {"heads": ("a", "w", "audited"), "options": EffectOptions(draws=200)}
    both, lowered, raised = (run(some, **of)["audited", "a"].effect for some in (rows, rows[:1], rows[1:]))
    assert both == pytest.approx(true, abs=0.02)
    assert lowered < true - 0.1
    assert raised > true + 0.1


@pytest.mark.parametrize("spans", [{}, {"a": 0.4}])
def test_a_fooled_head_halves_the_effect_unless_someone_else_watches(spans: dict[str, float]) -> None:
    """Its own column moves twice as far as the attribute does; a witness that was not descended tells."""
    rng = np.random.default_rng(0)
    has = np.arange(60) % 2 == 0
    start = np.where(has, 0.9, 0.1) + rng.uniform(-0.05, 0.05, size=60)
    moved = np.where(has, -1.0, 1.0) * rng.uniform(0.35, 0.42, size=60)
    other = rng.uniform(0.3, 0.6, size=60)
    head, witness = np.stack([start, start + 2 * moved]), np.stack([start, start + moved])
    audited = np.stack([other + 0.5 * start, other + 0.5 * (start + moved)])
    rows = both_ways("a", head, witness, audited, has)
    of = {"heads": ("a", "judge:a", "audited"), "options": EXACT, "spans": spans}
    span = spans.get("a", 1.0)
    fooled, right = (run(rows, witnesses=w, **of)["audited", "a"] for w in ({}, {"a": "judge:a"}))
    assert fooled.effect == pytest.approx(0.25 * span, abs=0.003)
    assert right.effect == pytest.approx(0.5 * span, abs=0.003)
    assert right.ci_low - 1e-3 <= 0.5 * span <= right.ci_high + 1e-3
    assert right.incoming == fooled.incoming == pytest.approx(0.25)


def test_a_witness_tells_which_of_two_attributes_moved() -> None:
    """Counterfactuals of ``b`` fool only its own head and really move ``a``, which the audited head uses."""
    rng = np.random.default_rng(0)
    heads, rows = ("a", "b", "judge:a", "judge:b", "audited"), []
    for base, real in (("a", (1.0, 0.0)), ("b", (0.5, 0.5))):
        step = -rng.uniform(0.5, 0.7, size=50)
        seen = np.column_stack([step * (base == "a"), step * (base == "b"), step * real[0], step * real[1]])
        before = rng.uniform(0.8, 0.9, size=(50, 5))
        after = before + np.column_stack([seen, 0.6 * step * real[0]])
        column = heads.index(base)
        image = np.arange(50, dtype=np.int64)
        rows.append(
            Row(base, image, (Outcome.REACHED,) * 50, before[:, column], after[:, column], before, after, before)
        )
    plain = run(rows, heads=heads, options=EXACT)
    watched = run(rows, heads=heads, options=EXACT, witnesses={"a": "judge:a", "b": "judge:b"})
    assert plain["audited", "b"].effect == pytest.approx(0.3, abs=0.01)
    assert watched["audited", "b"].effect == pytest.approx(0.0, abs=0.01)
    assert watched["audited", "a"].effect == pytest.approx(0.6, abs=0.01)


def test_the_default_options_are_close() -> None:
    shares = (0.7, 0.0, 0.0, 0.2)
    reference = LinearClassifier(directions(4, overlap=0.3, gain=9.0), (0.3, 0.2, 0.4, 0.1), ATTRIBUTES)
    audited = Mixture(reference, shares, 0.05)
    table = panel([reference[t] for t in ATTRIBUTES], [("mixture", audited["mixture"])])
    rows = [usable(r, min_base_change=0.3)[0] for r in measured_rows(linear_images(80), table, ATTRIBUTES)]
    found = effects(rows, table.labels, ("mixture",), outgoing={}, options=EffectOptions()).effects
    np.testing.assert_allclose([e.effect for e in found], shares, atol=0.08)


def test_a_head_that_uses_none_of_the_attributes_has_no_effects() -> None:
    """It reads latents that no attribute reads, so every counterfactual leaves it alone."""
    reference = LinearClassifier(directions(4, overlap=0.5), (0.3, 0.2, 0.4, 0.1), ATTRIBUTES)
    own = np.zeros((1, 8))
    own[0, 6] = 8.0
    audited = LinearClassifier(own, (0.2,), ("audited",), name="audited")
    table = panel([reference[t] for t in ATTRIBUTES], [("audited", audited["audited"])])
    rows = [usable(r, min_base_change=0.3)[0] for r in measured_rows(linear_images(60), table, ATTRIBUTES)]
    found = effects(rows, table.labels, ("audited",), outgoing={}, options=FEW).effects
    assert max(abs(e.effect) for e in found) < 0.005
    assert min(e.q for e in found) == 1.0


def noise_row(base: int, rng: np.random.Generator, noise: Floats, *, off: float, spread: float, use: float) -> Row:
    n = len(noise)
    before = np.full((n, 5), 0.5)
    change = -0.6 * (np.eye(4)[base] + off * (1 - np.eye(4)[base])) + 0.02 * rng.normal(size=(n, 4))
    response = use * change[:, :1] + noise[:, None]
    after = before + np.column_stack([change, response])
    null = before + 0.1 * spread * rng.normal(size=before.shape)
    return Row(
        ATTRIBUTES[base],
        np.arange(n, dtype=np.int64),
        (Outcome.REACHED,) * n,
        before[:, base],
        after[:, base],
        before,
        after,
        null,
    )


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
        options = EffectOptions(samples=100, draws=200)
        # One attribute's q is its p, for there is no other: q over four is at least that.
        found = run(rows, options=options, seed=seed)
        flagged.append(min(e.q for e in found.values()) < 0.05)
    assert np.mean(flagged) < 0.12


def test_effects_that_are_there_are_found_through_the_noise() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        rows = [noise_row(k, rng, 0.1 * rng.normal(size=40), off=0.4, spread=0.3, use=0.4) for k in range(4)]
        found = run(rows, seed=seed, options=EffectOptions(ridge=0.01))
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
        found = run(rows, seed=seed, options=EffectOptions(ridge=1e-4, samples=500, draws=100))
        hits += [e.ci_low <= (0.4 if e.attribute == "a" else 0.0) <= e.ci_high for e in found.values()]
    assert 0.86 < np.mean(hits) <= 1.0


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", ["ridge", "misfit", "misfit_weight"])
def test_options_of_nothing_are_refused(name: str, value: float) -> None:
    with pytest.raises(BadInput, match=name):
        EffectOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["samples", "draws"])
def test_too_few_draws_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match=f"{name}: expected a whole number at least 100, got 99"):
        EffectOptions(**{name: 99})  # type: ignore[arg-type]


def test_few_causes_are_found_where_ridge_spreads_them() -> None:
    """Two attributes that move together, one of which the head uses."""
    rng = np.random.default_rng(0)
    rows = []
    mixture = np.array([[1.0, 0.85, 0.0], [0.85, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for k, base in enumerate("abc"):
        before = np.full((40, 4), 0.9)
        change = -0.6 * mixture[k] + 0.01 * rng.normal(size=(40, 3))
        after = before + np.column_stack([change, 0.5 * change[:, 0]])
        image = np.arange(40, dtype=np.int64)
        rows.append(Row(base, image, (Outcome.REACHED,) * 40, before[:, k], after[:, k], before, after, before))
    found = run(rows, heads=("a", "b", "c", "audited"), options=EffectOptions())
    sums = np.stack([(r.after - r.before).sum(axis=0) for r in rows])
    spread = unmix(*(sums[:, at] / sums.diagonal()[:, None] for at in (slice(3), slice(3, 4))), ridge=0.05)[:, 0]
    assert found["audited", "a"].effect > 0.4
    assert abs(found["audited", "b"].effect) < 0.05 < 0.07 < spread[1]


def test_an_attribute_seen_on_one_image_does_not_speak_for_many() -> None:
    """Its response moves by 1; the effects by little."""
    rng = np.random.default_rng(0)
    rows = [noise_row(k, rng, 0.05 * rng.normal(size=40), off=0.3, spread=0.3, use=0.4) for k in range(4)]
    one = rows[2].where(np.arange(40) == 0)
    wild = replace(one, after=one.after + one.base_change[:, None] * np.array([0, 0, 0, 0, 1.0]))
    calm, loud = (run([rows[0], rows[1], row, rows[3]], options=MANY) for row in (one, wild))
    assert loud["audited", "c"].incoming - calm["audited", "c"].incoming == pytest.approx(1.0)
    for attribute in ATTRIBUTES:
        assert abs(loud["audited", attribute].effect - calm["audited", attribute].effect) < 0.25
    assert loud["audited", "c"].ci_low < 0 < loud["audited", "c"].ci_high


def test_a_strong_effect_neither_hides_another_nor_lends_itself_to_what_moves_along() -> None:
    """Tested without taking out what the other attributes explain, d passes for used."""
    rng = np.random.default_rng(0)
    rows = []
    for k in range(4):
        row = noise_row(k, rng, 0.02 * rng.normal(size=40), off=0.4, spread=0.3, use=0.0)
        change = (row.after - row.before)[:, :4]
        answer = row.after[:, 4:] + change @ np.array([[0.9], [0.15], [0.0], [0.0]])
        rows.append(replace(row, after=np.column_stack([row.after[:, :4], answer])))
    found = run(rows, heads=HEADS, options=EffectOptions())
    assert found["audited", "a"].q < 0.01
    assert found["audited", "b"].q < 0.01
    assert found["audited", "b"].effect == pytest.approx(0.15, abs=0.03)
    assert min(found["audited", name].q for name in "cd") > 0.05


def test_a_head_that_never_changes_uses_nothing() -> None:
    """What the attributes explain of nothing is noise, and no evidence."""
    still = [replace(row, after=row.after.copy(), null=row.null.copy()) for row in ROWS]
    for row in still:
        row.after[:, -1] = row.before[:, -1]
    assert min(effect.q for effect in run(ROWS).values()) < 0.05
    found = run(still).values()
    assert {effect.q for effect in found} == {1.0}
    assert not any(effect.clear for effect in found)
