"""Intervals and p-values over people: on people drawn by the thousand whose law is known, and under changes that must
not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from cfalign._analysis.alignment import Row, alignment
from cfalign._analysis.effects import effects
from cfalign._analysis.options import AlignmentOptions, EffectOptions
from cfalign._analysis.statistics import (
    People,
    bootstrap_counts,
    exchange_signs,
    generator,
    variances_over_people,
    widening,
)
from cfalign._analysis.unmixing import Problem, solved
from cfalign._audit.head_checks import followed
from cfalign._results import Cell, Effect, Floats, Followed
from people_world import HEADS, World

CELLS = AlignmentOptions(resamples=400, draws=200)
EXACT = EffectOptions(samples=300, draws=200, switch_error=0.0, misfit=0.005)
"""For a world whose judge sees all, and whose attributes explain all but chance."""
DRAWN_OFTEN = replace(EXACT, draws=1000)
"""For p-values: few people can be exchanged in few ways, and chance must not hide an effect that is beyond doubt."""
TOGETHER = 20
"""Audited heads of one world where intervals or p-values are counted."""
HELD = 0.93
"""The least share of 95 % intervals that must hold the truth."""
CHANCE = 0.01
"""By how much the share of a thousand intervals may fall short, 1.5 standard errors: dozens of worlds are tried."""


def cell_of(row: Row, people: People | None, *, seed: int = 0, options: AlignmentOptions = CELLS) -> Cell:
    found = alignment([row], HEADS, logit_scale={}, options=options, seed=seed, people=people)
    return next(cell for cell in found if cell.downstream == "audited")


def effects_of(rows: list[Row], people: People | None, *, seed: int = 0) -> dict[str, Effect]:
    found = effects(rows, HEADS, ["audited"], options=EXACT, seed=seed, people=people).effects
    return {effect.attribute: effect for effect in found}


def share_of(rows: list[Row], people: People | None, *, seed: int = 0) -> Followed:
    """The audited head in the place of a judge."""
    return followed(rows, HEADS, "a", "audited", seed=seed, people=people)


Intervals = list[tuple[float, float, float]]
"""Low end, truth and high end, of every audited head."""
Measured = Callable[[World, int, bool], Intervals]
"""Of a world by its seed, over people or over images."""


def people_of(world: World, grouped: bool) -> People | None:
    return world.people if grouped else None


def cells_of(world: World, seed: int, grouped: bool) -> list[Cell]:
    """Of every audited head."""
    people = people_of(world, grouped)
    found = alignment([world.row(seed)], world.columns, logit_scale={}, options=CELLS, seed=seed, people=people)
    return [cell for cell in found if cell.downstream in world.audited]


def _cell(world: World, seed: int, grouped: bool) -> Intervals:
    return [(cell.ci_low, world.truth, cell.ci_high) for cell in cells_of(world, seed, grouped)]


@cache
def _effects(world: World, seed: int, grouped: bool) -> tuple[Effect, ...]:
    people = people_of(world, grouped)
    found = effects(world.rows(seed), world.columns, world.audited, options=EXACT, seed=seed, people=people)
    return tuple(found.effects)


def _effect(world: World, seed: int, grouped: bool) -> Intervals:
    return [(e.ci_low, world.truth, e.ci_high) for e in _effects(world, seed, grouped) if e.attribute == "a"]


def _nothing(world: World, seed: int, grouped: bool) -> Intervals:
    return [(e.ci_low, 0.0, e.ci_high) for e in _effects(world, seed, grouped) if e.attribute == "b"]


def _share(world: World, seed: int, grouped: bool) -> Intervals:
    rows, people = world.rows(seed), people_of(world, grouped)
    shares = [followed(rows, world.columns, "a", judge, seed=seed, people=people) for judge in world.audited]
    return [(share.ci_low, world.truth, share.ci_high) for share in shares]


def held(world: World, measured: Measured, times: int, *, grouped: bool = True) -> float:
    """The share of intervals that hold the truth."""
    many = replace(world, heads=TOGETHER)
    found = [part for seed in range(times // TOGETHER) for part in measured(many, seed, grouped)]
    assert len(found) == times
    return float(np.mean([low <= truth <= high for low, truth, high in found]))


# --- what an interval promises ------------------------------------------------------------------------------


ALL = [
    pytest.param(World(count, icc), measured, id=f"{name}, {count} people, icc {icc}")
    for count, icc, names in ((40, 0.5, "cell effect"), (40, 0.9, "cell effect share"), (200, 0.5, "cell effect"))
    for name, measured in (("cell", _cell), ("effect", _effect), ("share", _share))
    if name in names.split()
]


@pytest.mark.parametrize(("world", "measured"), [*ALL, (World(40, 0.2), _cell), (World(200, 0.2), _cell)])
def test_intervals_over_people_hold_the_truth_as_often_as_they_say(world: World, measured: Measured) -> None:
    assert held(world, measured, 240) >= HELD - CHANCE


@pytest.mark.parametrize(("world", "measured"), ALL)
def test_intervals_over_images_of_people_do_not(world: World, measured: Measured) -> None:
    """Why groups are asked for at all: the same images as if each were of another person."""
    assert held(world, measured, 120, grouped=False) < 0.85


@pytest.mark.slow
@pytest.mark.parametrize("measured", [_cell, _effect, _nothing, _share], ids=["cell", "effect", "nothing", "share"])
@pytest.mark.parametrize("icc", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("count", [10, 40, 200])
def test_intervals_over_people_hold_the_truth_in_many_worlds(count: int, icc: float, measured: Measured) -> None:
    """Effects of ten people hold it somewhat less often: how far each way of an attribute counts is estimated too."""
    few = count == 10 and measured is _effect
    times = 400 if count == 200 and measured is _share else 1000
    assert held(World(count, icc), measured, times) >= (0.89 if few else HELD - CHANCE)


@pytest.mark.slow
@pytest.mark.parametrize("icc", [0.2, 0.9])
@pytest.mark.parametrize("count", [10, 40])
def test_people_of_whom_there_are_many_images_and_few(count: int, icc: float) -> None:
    sizes = tuple(int(n) for n in np.clip(np.random.default_rng(count).pareto(1.5, size=count) * 4 + 1, 1, 60))
    assert held(World(count, icc, sizes=sizes), _cell, 1000) >= HELD - CHANCE


def p_of_effects(world: World, seed: int, grouped: bool) -> tuple[Floats, Floats]:
    """The p-values of the effects of ``a`` and of ``b`` on every audited head: before they become q-values together."""
    names, people = HEADS[:2], people_of(world, grouped)
    problem = Problem(
        rows=world.rows(seed),
        heads=world.columns,
        attributes=names,
        watched=names,
        audited=world.audited,
        spans=np.ones(2),
        together=np.full((2, 2), np.nan),
        same={},
        groups=(),
        reach=np.ones(world.heads),
        people=people,
    )
    found = solved(problem, DRAWN_OFTEN, seed).of_attributes
    a, b = (np.array([found[head, name].p for head in world.audited]) for name in names)
    return a, b


def wrongly_found(count: int, icc: float, times: int, *, grouped: bool = True) -> tuple[float, float]:
    """How often p < 0.05 where there is nothing: in a cell, and of an effect beside one that is beyond doubt."""
    world, nothing = (World(count, icc, truth=truth, heads=TOGETHER) for truth in (0.8, 0.0))
    cells, wrong = [], []
    for seed in range(times // TOGETHER):
        used, unused = p_of_effects(world, seed, grouped)
        assert used.max() < 0.025
        wrong.extend(unused)
        cells.extend(cell.p for cell in cells_of(nothing, seed, grouped))
    assert len(cells) == len(wrong) == times
    return float((np.array(cells) < 0.05).mean()), float((np.array(wrong) < 0.05).mean())


@pytest.mark.parametrize("icc", [0.5, 0.9])
def test_p_values_over_people_are_as_seldom_small_as_they_say(icc: float) -> None:
    assert max(wrongly_found(40, icc, 240)) <= 0.07


def test_p_values_over_images_of_people_are_too_small() -> None:
    cells, _ = wrongly_found(40, 0.9, 120, grouped=False)
    assert cells > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("icc", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("count", [10, 40, 200])
def test_p_values_over_people_in_many_worlds(count: int, icc: float) -> None:
    assert max(wrongly_found(count, icc, 1000)) <= 0.07


# --- what must not matter -----------------------------------------------------------------------------------


def test_people_of_one_image_each_are_images() -> None:
    world = World(200, 0.0, sizes=(1,) * 200)
    rows, lone = world.rows(3), np.arange(200)
    cell, other = (cell_of(world.row(3), who) for who in (None, lone))
    assert (cell.psi, cell.p) == (other.psi, other.p)
    assert (other.ci_low, other.ci_high) == pytest.approx((cell.ci_low, cell.ci_high), abs=0.001)
    for name, effect in effects_of(rows, None).items():
        again = effects_of(rows, lone)[name]
        assert (again.ci_low, again.ci_high) == pytest.approx((effect.ci_low, effect.ci_high), abs=0.005)
        assert again.q == pytest.approx(effect.q, abs=0.05)
    assert share_of(rows, lone).ci_low == pytest.approx(share_of(rows, None).ci_low, abs=0.005)


def shuffled(row: Row, seed: int) -> Row:
    """The same counterfactuals in another order."""
    order = np.random.default_rng(seed).permutation(len(row))
    arrays = {name: getattr(row, name)[order] for name in ("image", "base_before", "base_after", "before", "after")}
    return replace(row, **arrays, null=row.null[order])


def test_the_order_of_images_changes_nothing() -> None:
    world = World(30, 0.6)
    people, rows = world.people, world.rows(1)
    mixed = [shuffled(row, k) for k, row in enumerate(rows)]
    one, other = cell_of(world.row(1), people), cell_of(shuffled(world.row(1), 9), people)
    for name in ("psi", "ci_low", "ci_high", "p"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9)
    for name, effect in effects_of(rows, people).items():
        again = effects_of(mixed, people)[name]
        assert (again.ci_low, again.ci_high, again.q) == pytest.approx(
            (effect.ci_low, effect.ci_high, effect.q), abs=1e-9
        )
    assert share_of(mixed, people).ci_high == pytest.approx(share_of(rows, people).ci_high, abs=1e-9)


def test_an_image_that_is_given_twice_tells_nothing_new() -> None:
    """Copies of images are people of two images each: the interval is that of the images once."""
    world = World(60, 0.0, sizes=(1,) * 60)
    row, people = world.row(5), np.repeat(np.arange(60), 2)
    twice = Row(
        base=row.base,
        image=np.arange(120),
        outcomes=row.outcomes * 2,
        **{n: np.repeat(getattr(row, n), 2, axis=0) for n in ("base_before", "base_after", "before", "after", "null")},
    )
    once, copied = cell_of(row, np.arange(60)), cell_of(twice, people)
    assert (copied.ci_low, copied.ci_high, copied.p) == pytest.approx((once.ci_low, once.ci_high, once.p))
    as_images = cell_of(twice, None)
    assert as_images.ci_high - as_images.ci_low < 0.8 * (copied.ci_high - copied.ci_low)


# --- the numbers themselves ---------------------------------------------------------------------------------


def test_people_are_drawn_whole() -> None:
    people = np.array([7, 3, 7, 7, 9, 3])
    counts = bootstrap_counts(6, resamples=500, rng=generator(0, "x"), people=people)
    signs = exchange_signs(6, draws=500, rng=generator(0, "x"), people=people)
    for drawn in (counts, signs):
        np.testing.assert_array_equal(drawn[:, 0], drawn[:, 2])
        np.testing.assert_array_equal(drawn[:, 1], drawn[:, 5])
        assert (drawn[:, 0] != drawn[:, 1]).any()
    np.testing.assert_array_equal(counts[:, [0, 1, 4]].sum(axis=1), 3)
    np.testing.assert_array_equal(
        bootstrap_counts(4, resamples=50, rng=generator(1, "x"), people=np.arange(4)),
        bootstrap_counts(4, resamples=50, rng=generator(1, "x")),
    )


def test_a_cell_is_a_ratio_of_sums_over_people_by_a_loop() -> None:
    world = World(12, 0.5, sizes=(1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1))
    row, people = world.row(0), world.people
    cell = cell_of(row, people)
    psi = (row.after - row.before)[:, 2] / row.base_change
    drawn = generator(0, "bootstrap", "a").multinomial(12, [1 / 12] * 12, size=400)
    means = []
    for times in drawn:
        chosen = [(times[people[i]], psi[i]) for i in range(len(row))]
        means.append(sum(n * x for n, x in chosen) / sum(n for n, _ in chosen))
    low, high = np.percentile(means, [2.5, 97.5])
    wider = widening(people)
    assert cell.ci_low == pytest.approx(psi.mean() - wider * (psi.mean() - low))
    assert cell.ci_high == pytest.approx(psi.mean() + wider * (high - psi.mean()))


def test_few_people_need_wider_intervals() -> None:
    of = {count: widening(np.repeat(np.arange(count), 5)) for count in (2, 5, 10, 40, 200)}
    assert of[5] == pytest.approx(np.sqrt(5 / 4) * 2.776445 / 1.959964, rel=1e-5)
    assert of[200] == pytest.approx(1.0, abs=0.01)
    assert list(of.values()) == sorted(of.values(), reverse=True)
    assert widening(np.array([0] * 50 + [1, 2, 3])) == of[2], "one who has nearly all images counts as no more"
    assert np.isnan(widening(np.zeros(5, dtype=np.int64)))


def test_the_variance_of_a_sum_over_people_by_a_loop() -> None:
    rng = np.random.default_rng(0)
    who = [np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 3])]
    parts = [rng.normal(size=(len(people), 2)) for people in who]
    parts = [part - part.mean(axis=0) for part in parts]
    sums = np.array(
        [[part[people == p].sum(axis=0) for p in range(4)] for part, people in zip(parts, who, strict=True)]
    )
    alone = np.array([sum(total**2 for total in rows) for rows in sums])
    together, apart = np.zeros(2), np.zeros(2)
    for p in range(4):
        together += sum(sums[k, p] / alone[k] for k in range(2)) ** 2
        apart += sum((sums[k, p] / alone[k]) ** 2 for k in range(2))
    wider = np.array([widening(people) for people in who])[:, None] ** 2
    expected = alone * wider * np.maximum(1, together / apart)
    np.testing.assert_allclose(variances_over_people(parts, who), expected)
    lone = variances_over_people([parts[0], parts[1][:1]], [who[0], np.array([0])])
    assert np.isnan(lone).tolist() == [[False, False], [True, True]]


def test_one_person_tells_nothing_of_others() -> None:
    world = World(1, 0.5, sizes=(30,))
    cell = cell_of(world.row(0), world.people)
    assert np.isnan([cell.ci_low, cell.ci_high]).all()
    assert cell.p == 1.0
    assert np.isfinite(cell.psi)
    effect = effects_of(world.rows(0), world.people)["a"]
    assert effect.ci_high - effect.ci_low > 0.3
    assert effect.q == 1.0
    assert np.isnan(share_of(world.rows(0), world.people).ci_low)
