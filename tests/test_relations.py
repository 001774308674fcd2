"""Correlation against use: every kind of relation where it belongs, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cfalign._analysis.relations import MOST, mutual, relations
from cfalign._results import Cell, Effect, Relation, RelationKind

RNG = np.random.default_rng(0)
SHARED = RNG.uniform(size=200)
SCORES = {
    "audited": SHARED,
    "twin": np.clip(SHARED + 0.05 * RNG.normal(size=200), 0, 1),
    "apart": RNG.permutation(SHARED),
    "constant": np.full(200, 0.3),
}


def effect(attribute: str, value: float, *, half: float = 0.02, q: float = 0.001) -> Effect:
    return Effect("audited", attribute, value, value - half, value + half, value, value, 60, q)


def cell(base: str, downstream: str, psi: float, *, half: float = 0.05) -> Cell:
    return Cell(base, downstream, psi, psi, psi, psi, psi - half, psi + half, 60, 0, 0.001, 0.001)


def kinds(found: list[Effect], cells: list[Cell] | None = None, **more: Any) -> dict[str, list[RelationKind]]:
    result: dict[str, list[RelationKind]] = {}
    for r in relations(found, cells or [], more.pop("scores", SCORES), min_effect=more.pop("min_effect", 0.1)):
        result.setdefault(r.attribute, []).append(r.kind)
    return result


def test_heads_that_go_together_without_use_and_that_are_used_without_going_together() -> None:
    assert kinds([effect("twin", 0.01), effect("apart", 0.4)]) == {
        "twin": [RelationKind.NOT_USED],
        "apart": [RelationKind.UNCORRELATED],
    }
    assert kinds([effect("twin", 0.4), effect("apart", 0.01)]) == {}, "used and together, unused and apart: as expected"


def test_not_used_needs_an_interval_within_the_least_effect() -> None:
    assert kinds([effect("twin", 0.01, half=0.2)]) == {}, "an uncertain effect is no absence"
    assert kinds([effect("twin", 0.01, half=0.2)], min_effect=0.3) == {"twin": [RelationKind.NOT_USED]}


def test_used_needs_q_and_an_interval_without_zero() -> None:
    assert kinds([effect("apart", 0.4, q=0.06)]) == {}
    assert kinds([effect("apart", 0.15, half=0.2)]) == {}
    assert kinds([effect("apart", -0.4)]) == {"apart": [RelationKind.UNCORRELATED]}


def test_asymmetric_needs_a_difference_and_intervals_that_do_not_meet() -> None:
    far = [cell("audited", "twin", 0.05), cell("twin", "audited", 0.6)]
    assert kinds([effect("twin", 0.4)], far) == {"twin": [RelationKind.ASYMMETRIC]}
    assert kinds([effect("twin", 0.4)], far[:1]) == {}, "one direction alone"
    assert kinds([effect("twin", 0.4)], [replace(far[0], ci_high=0.58), far[1]]) == {}
    assert kinds([effect("twin", 0.4)], [far[0], cell("twin", "audited", 0.3)]) == {}
    assert kinds([effect("twin", 0.4)], [far[0], replace(far[1], psi=float("nan"))]) == {}


def test_correlations_are_over_the_images_where_both_are_known() -> None:
    holes = {**SCORES, "twin": np.where(np.arange(200) < 150, SCORES["twin"], np.nan)}
    found: list[Relation] = relations([effect("twin", 0.0)], [], holes, min_effect=0.1)
    assert found[0].images == 150
    assert found[0].correlation == pytest.approx(np.corrcoef(SHARED[:150], SCORES["twin"][:150])[0, 1])
    assert kinds([effect("constant", 0.0), effect("constant", 0.5)]) == {}, "r is undefined"


def test_most_remarkable_first_and_not_too_many() -> None:
    found = relations([effect("apart", 0.11 + 0.01 * k) for k in range(MOST + 5)], [], SCORES, min_effect=0.1)
    sizes = [r.effect for r in found]
    assert len(found) == MOST
    assert sizes == sorted(sizes, reverse=True)


def test_mutual_pairs_move_each_other() -> None:
    """One direction alone is no pair, the sign does not count, and a number that is missing makes none."""
    psi = {
        ("a", "b"): 0.9,
        ("b", "a"): -0.6,
        ("a", "c"): 0.9,
        ("c", "a"): 0.1,
        ("b", "c"): 0.7,
        ("c", "b"): 0.8,
        ("a", "d"): float("nan"),
        ("d", "a"): 0.9,
        ("b", "d"): 0.9,
    }
    assert mutual(psi, ["a", "b", "c", "d"]) == [("b", "c", 0.7), ("a", "b", 0.6)]
    assert mutual(psi, ["a", "b", "c", "d"], least=0.1)[-1] == ("a", "c", 0.1)
    assert mutual(psi, ["a", "c"]) == []
