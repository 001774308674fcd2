"""The demo, as a user starts it: what it finds, what it costs."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest

import worlds
from cfalign._audit.demo import PLANTED, UNNAMED
from cfalign._results import Outcome, own_concept
from cfalign._runs.run import Run

SHORTCUTS = {f"{name}:{name.split('_from_')[0]}": name.split("_from_")[1] for name in PLANTED}


@dataclass(frozen=True)
class Demo:
    run: Run
    printed: dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """As a user starts it."""
    folder = tmp_path_factory.mktemp("demo")
    words = [sys.executable, "-m", "cfalign", "demo", "--out", "run", "--json"]
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return Demo(Run(folder / "run"), json.loads(ended.stdout))


@pytest.fixture(scope="module", params=["few faces", pytest.param("as it is", marks=pytest.mark.slow)])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    if request.param == "as it is":
        found: Demo = request.getfixturevalue("whole")
        return found
    folder = tmp_path_factory.mktemp("demo")
    ended = worlds.cfalign("demo", "--out", "run", "--json", "--faces", 200, "--limit", 8, folder=folder)
    assert ended.code == 0, ended.err
    return Demo(Run(folder / "run"), json.loads(ended.out))


@pytest.mark.slow
@pytest.mark.usefixtures("whole")
def test_it_takes_little_memory() -> None:
    """How long it takes is no test: machines differ; how many passes it needs is one, below."""
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of all processes that were waited for
    assert largest * (1 if sys.platform == "darwin" else 1024) < 2 * 2**30


def made(demo: Demo, *, raised: bool = False) -> pl.DataFrame:
    """Counterfactuals with the requested drop; or those that raise an attribute, which go as far as they get."""
    known = pl.col("base").is_in(demo.run.record()["bases"])
    return demo.run.responses().filter((pl.col("evaluations") > 0) & (~known if raised else known))


def test_its_findings_are_the_planted_shortcuts(demo: Demo) -> None:
    found = [(f["rank"], f["audited"], f["attribute"]) for f in demo.run.findings()]
    assert sorted(found[:2]) == sorted((rank, audited, SHORTCUTS[audited]) for rank, audited, _ in found[:2]), (
        "ranks 1 and 2"
    )
    assert [rank for rank, _, _ in found] == [1, 2]
    assert {audited for _, audited, _ in found} == set(SHORTCUTS)
    assert [(f["audited"], f["attribute"]) for f in demo.printed["findings"]] == [pair[1:] for pair in found]


def test_no_other_attribute_outranks_them(demo: Demo) -> None:
    effects = demo.run.effects()
    weakest = min(abs(f["effect"]) for f in demo.run.findings())
    for row in effects.iter_rows(named=True):
        if row["attribute"] != SHORTCUTS.get(row["audited"]) and not own_concept(row["audited"], row["attribute"]):
            assert abs(row["effect"]) < weakest, row
    for audited, shortcut in SHORTCUTS.items():
        mine = effects.filter(pl.col("audited") == audited).sort(pl.col("effect").abs(), descending=True)
        assert mine["attribute"][0] == shortcut, "not even what the head is meant to see"


def test_the_shortcut_without_a_name_is_found_and_no_other(demo: Demo) -> None:
    target, _, hidden = UNNAMED.partition("_from_")
    record = demo.run.record()
    assert hidden not in record["attributes"]
    assert len(record["audited"]) == len(demo.run.unnamed()) == len(PLANTED) + 1
    found = [feature for feature in demo.run.unnamed() if feature.found]
    assert [feature.audited for feature in found] == [f"{UNNAMED}:{target}"]
    assert found[0].effect > 0.3
    assert [f["found"] for f in demo.printed["unnamed"]].count(True) == 1


def test_searches_land(demo: Demo) -> None:
    landed = made(demo)["outcome"].is_in([Outcome.REACHED, Outcome.FLOOR])
    assert landed.mean() >= 0.97
    reached = made(demo).filter(pl.col("outcome") == Outcome.REACHED)
    drop = reached["base_before"] - reached["base_after"]
    assert drop.mean() == pytest.approx(0.6, abs=0.01)
    assert (drop - 0.6).abs().max() <= 0.01 + 1e-6
    raised = made(demo, raised=True)
    assert len(raised) == demo.run.record()["cost"]["raised"] > 0
    assert raised["outcome"].is_in([Outcome.REACHED, Outcome.FLOOR]).mean() >= 0.85


def test_the_oracle_watches_every_attribute(demo: Demo) -> None:
    record = demo.run.record()
    assert record["judges"] == {a: f"judge:{a}" for a in record["attributes"]}
    for share in record["controls"].values():
        assert share["n"] > 0
        assert share["ci_low"] <= share["judge_share"] <= share["ci_high"]


def test_a_search_needs_few_decodes(demo: Demo) -> None:
    assert made(demo)["evaluations"].mean() <= 3.0
    assert demo.run.record()["cost"]["search_decodes_per_cf"] == pytest.approx(made(demo)["evaluations"].mean())


def test_the_diagonal_is_one(demo: Demo) -> None:
    diagonal = demo.run.matrix().filter(pl.col("base") == pl.col("downstream"))
    assert len(diagonal) == len(demo.run.record()["bases"])
    assert np.abs(diagonal["psi"].to_numpy() - 1).max() < 1e-6


def test_the_reports_are_there(demo: Demo) -> None:
    for name in ("report.html", "report.md", "report.json"):
        assert (demo.run.path / name).is_file()
