"""Options dataclasses from TOML, `--set` and flags."""

from __future__ import annotations

import json
import pickle
from dataclasses import FrozenInstanceError, asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfalign._analysis.options import EffectOptions
from cfalign._audit.options import AuditOptions, differing_from_bank
from cfalign._cli.configuration import given_settings
from cfalign._counterfactuals.options import DescentOptions, EstimateOptions, SearchOptions
from cfalign._errors import BadInput
from cfalign._explanation.options import ExplainOptions
from cfalign._rectification.options import RectificationOptions
from cfalign._validation import from_mapping
from cfalign.training import AutoencoderTraining, ClassifierTraining


def read(*assignments: str, config: Path | None = None, **flags: Any) -> AuditOptions:
    given = {key.replace("__", "."): value for key, value in flags.items()}
    return from_mapping(AuditOptions, given_settings(config=config, assignments=assignments, flags=given))


def test_without_anything_the_defaults() -> None:
    assert read() == AuditOptions()
    assert read(limit=None, search__drop=None) == AuditOptions()


def test_flags_go_before_assignments_before_the_file(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('limit = 10\nseed = 4\nbatch = 8\n[search]\nstrategy = "schedule"\ndrop = 0.5\n')
    made = read("seed=5", "batch=16", "search.drop=0.4", config=config, batch=32, search__drop=0.3)
    assert (made.limit, made.seed, made.batch) == (10, 5, 32)
    assert (made.search.strategy, made.search.drop) == ("schedule", 0.3)


def test_assignments_reach_every_group() -> None:
    made = read(
        "search.tolerance=0.02",
        "effects.ridge=0.1",
        "alignment.resamples=500",
        "search.strategy=schedule",
        "search.max_image_change=0.2",
        "min_effect=0",
        "search.drop = 1",
    )
    assert made.search.tolerance == 0.02
    assert made.effects.ridge == 0.1
    assert made.alignment.resamples == 500
    assert made.search.strategy == "schedule"
    assert made.search.max_image_change == 0.2
    assert isinstance(made.min_effect, float)
    assert made.search.drop == 1.0


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("limt=3", "Unknown setting 'limt'; nearest valid: limit"),
        ("search.dorp=0.3", "Unknown setting 'search.dorp'; nearest valid: drop"),
        ("serch.drop=0.3", "Unknown setting 'serch'; nearest valid: search"),
        ("limit.x=3", r"limit: expected a whole number at least 1, got \{'x': 3\}"),
        ("search=3", r"search: expected a group of settings, e\.g\. search\.drop, got 3"),
        ("limit", "expected name=value"),
        ("limit=many", "limit: expected a whole number at least 1, got 'many'"),
        ("limit=2.5", "expected a whole number"),
        ("limit=true", "expected a whole number"),
        ("search.drop=much", r"search\.drop: expected a number above 0 and at most 10, got 'much'"),
        ("search.strategy=3", "expected one of refined, schedule, got 3"),
        ("search.strategy=quick", r"search\.strategy: expected one of refined, schedule, got 'quick'"),
        ("search.max_image_change=some", r"max_image_change: expected a number above 0, or none, got 'some'"),
        ("search.drop=0", r"search\.drop: expected a number above 0"),
        ("search.drop=nan", r"search\.drop: expected a number above 0"),
        ("min_effect=2", "min_effect: expected a number at least 0 and at most 1"),
        ("min_effect=nan", "min_effect: expected a number at least 0 and at most 1"),
        ("limit=0", "limit: expected a whole number at least 1, got 0"),
        ("batch=-1", "batch: expected a whole number at least 1"),
        ("seed=-1", "seed: expected a whole number at least 0"),
        ("shown=-1", "shown: expected"),
        ("max_findings=-1", "max_findings: expected"),
        ("alignment.resamples=3", r"alignment\.resamples: expected a whole number at least 100, got 3"),
        ("effects.ridge=0", r"effects\.ridge: expected a number above 0, got 0"),
    ],
)
def test_what_no_setting_may_be(assignment: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        read(assignment)


def test_files_that_are_no_settings(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    with pytest.raises(BadInput, match="There is no settings file"):
        read(config=config)
    with pytest.raises(BadInput, match="cannot be read as TOML"):
        read(config=tmp_path)
    for text in ("limit = ", "[search\n", "limit = 1\nlimit = 2\n"):
        config.write_text(text)
        with pytest.raises(BadInput, match="cannot be read as TOML"):
            read(config=config)
    config.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match="cannot be read as TOML"):
        read(config=config)
    config.write_text("search = 3\n")
    with pytest.raises(BadInput, match=r"expected search to be a group of settings"):
        read("search.drop=0.5", config=config)
    config.write_text("[search]\ndorp = 1\n")
    with pytest.raises(BadInput, match=r"Unknown setting 'search\.dorp'"):
        read(config=config)


@pytest.mark.parametrize(
    ("kind", "fields", "sentence"),
    [
        (
            SearchOptions,
            {"max_lambda": 5.0},
            r"SearchOptions\.max_lambda=5\.0 has no effect without strategy='schedule'",
        ),
        (
            AuditOptions,
            {"search": SearchOptions(descent=DescentOptions(max_steps=3))},
            r"search\.descent\.max_steps=3 has no effect without search\.method='iterated', 'latent-cf' or 'pixels'",
        ),
        (
            ExplainOptions,
            {"search": SearchOptions(method="iterated", descent=DescentOptions(optimiser="gradient"))},
            r"search\.descent\.optimiser='gradient' has no effect without search\.method='latent-cf' or 'pixels'",
        ),
        (EstimateOptions, {"seed": 3}, r"EstimateOptions\.seed=3 has no effect without enabled=True"),
        (
            ExplainOptions,
            {"search": SearchOptions(off_drop=0.9)},
            r"search\.off_drop=0\.9 has no effect without an audit",
        ),
        (RectificationOptions, {"minibatch": 5}, r"minibatch=5 has no effect without solver='momentum'"),
        (
            RectificationOptions,
            {"solver": "momentum", "blind": 0.1},
            r"blind=0\.1 has no effect without solver='secant'",
        ),
        (
            RectificationOptions,
            {"reading": "outgoing", "search": SearchOptions(off_drop=0.9)},
            r"search\.off_drop=0\.9 has no effect without the incoming reading",
        ),
        (AutoencoderTraining, {"epochs": 3.0}, r"epochs=3\.0 has no effect without architecture='convolutional'"),
        (AutoencoderTraining, {"noise": 0.2}, r"noise=0\.2 has no effect without architecture='convolutional'"),
        (
            AutoencoderTraining,
            {"architecture": "convolutional", "whiten_from": 3},
            "whiten_from=3 has no effect without architecture='components'",
        ),
    ],
)
def test_a_setting_without_effect_is_an_error(kind: Any, fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        kind(**fields)


def test_settings_across_fields() -> None:
    with pytest.raises(
        BadInput, match=r"^search\.strategy: expected 'refined' with the method 'pixels', got 'schedule'"
    ):
        read("search.method=pixels", "search.strategy=schedule")
    with pytest.raises(BadInput, match=r"RectificationOptions\.train, validation: expected .*, got \(0\.6, 0\.4\)"):
        RectificationOptions(train=0.6, validation=0.4)


OPTIONS = [AuditOptions(), ExplainOptions(), RectificationOptions(), AutoencoderTraining(), ClassifierTraining()]


@pytest.mark.parametrize("made", OPTIONS, ids=lambda made: type(made).__name__)
def test_options_are_plain_frozen_dataclasses(made: Any) -> None:
    assert type(made)(**{f.name: getattr(made, f.name) for f in fields(made)}) == made
    assert hash(made) == hash(replace(made))
    assert pickle.loads(pickle.dumps(made)) == made
    other = replace(made, seed=3) if hasattr(made, "seed") else replace(made, batch=3)
    assert other != made
    assert asdict(other) != asdict(made)
    assert json.loads(json.dumps(asdict(made))).keys() == {f.name for f in fields(made)}
    with pytest.raises(FrozenInstanceError):
        made.batch = 3


def test_numpy_numbers_and_lists_are_taken() -> None:
    assert AuditOptions(limit=np.int64(3)) == AuditOptions(limit=3)
    assert SearchOptions(drop=np.float32(0.5)).drop == 0.5
    assert ClassifierTraining(targets=["a", "b"]).targets == ("a", "b")  # type: ignore[arg-type]
    assert isinstance(SearchOptions(drop=1).drop, float)


def test_an_unknown_field_names_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"Unknown setting 'SearchOptions\.dorp'; nearest valid: drop"):
        SearchOptions(dorp=0.3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("chosen", "named"),
    [
        ({}, []),
        ({"limit": 1}, ["limit"]),
        ({"limit": 15}, []),
        ({"search": SearchOptions(drop=0.2, eligible=0.7), "seed": 4}, ["search.drop", "search.eligible"]),
        ({"estimate": EstimateOptions(enabled=True), "both_ways": False}, ["both_ways", "estimate.enabled"]),
        ({"shown": 1, "batch": 3, "min_effect": 0.2, "effects": EffectOptions(ridge=0.3)}, []),
    ],
)
def test_what_a_bank_decides(chosen: dict[str, Any], named: list[str]) -> None:
    made = json.loads(json.dumps(asdict(AuditOptions(limit=15))))
    assert differing_from_bank(AuditOptions(**chosen), made) == named
