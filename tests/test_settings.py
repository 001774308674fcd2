"""Options dataclasses from TOML, `--set` and flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cfalign._audit.options import AuditOptions
from cfalign._cli.settings import options
from cfalign._errors import BadInput


def read(*assignments: str, config: Path | None = None, **flags: Any) -> AuditOptions:
    given = {key.replace("__", "."): value for key, value in flags.items()}
    return options(AuditOptions, config=config, assignments=assignments, flags=given)


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
        "search.tolerance=0.02", "effects.ridge=0.1", "alignment.resamples=500", "search.strategy=schedule",
        "search.max_image_change=0.2", "min_effect=0", "search.drop = 1",
    )  # fmt: skip
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
        ("limit.x=3", "Unknown setting|must be a whole number"),
        ("search=3", r"'search' is a group of settings, e\.g\. search\.drop; got 3"),
        ("limit", "expects name=value"),
        ("limit=many", "'limit' must be a whole number such as 200, got 'many'"),
        ("limit=2.5", "must be a whole number"),
        ("limit=true", "must be a whole number"),
        ("search.drop=much", r"'search\.drop' must be a number such as 0\.6"),
        ("search.strategy=3", "must be one of refined, schedule; got 3"),
        ("search.strategy=quick", r"'search\.strategy' must be one of refined, schedule; got 'quick'"),
        ("search.max_image_change=some", "must be a number"),
        ("search.drop=0", "drop must be above 0"),
        ("search.drop=nan", "drop must be above 0"),
        ("min_effect=2", "min_effect must be between 0 and 1"),
        ("min_effect=nan", "min_effect must be between 0 and 1"),
        ("limit=0", "limit must be at least 1"),
        ("batch=-1", "batch must be at least 1"),
        ("seed=-1", "seed must be at least 0"),
        ("shown=-1", "shown must be at least 0"),
        ("max_findings=-1", "max_findings must be at least 0"),
        ("alignment.resamples=3", "resamples"),
        ("effects.ridge=0", "ridge must be above 0"),
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
    with pytest.raises(BadInput, match=r"group of settings|plain value"):
        read("search.drop=0.5", config=config)
    config.write_text("[search]\ndorp = 1\n")
    with pytest.raises(BadInput, match=r"Unknown setting 'search\.dorp'"):
        read(config=config)
