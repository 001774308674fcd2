"""Run directories: whole pieces only, differences named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import worlds
from cfalign._errors import BadInput, RunMismatch, StorageFailed
from cfalign._results import Cell
from cfalign._runs.codec import write_json, write_parquet, write_rows, write_tensors, write_text, written
from cfalign._runs.record import refuse_other
from cfalign._runs.run import Run

NAN = float("nan")


# -- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "one")

    def stop_in_the_middle() -> None:
        with written(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop_in_the_middle()
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


FULL: list[Callable[[Path], None]] = [
    lambda p: write_text(p, "x" * 100_000),
    lambda p: write_parquet(p, pl.DataFrame({"x": np.random.default_rng(0).standard_normal(50_000)})),
    lambda p: write_tensors(p, {"x": torch.zeros(100_000)}),
]


@pytest.mark.parametrize("write", FULL, ids=["text", "parquet", "tensors"])
def test_a_disk_that_refuses_leaves_what_was_there(write: Callable[[Path], None], tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "file"
    path.write_text("before")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        with pytest.raises(StorageFailed, match=r"Could not write .*file: .*make room"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    write(path)
    assert path.stat().st_size > 4096


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageFailed, match="Pick a folder that can be written to"):
        write_text(tmp_path / "file" / "below.txt", "x")
    with pytest.raises(StorageFailed, match="Could not write"):
        write_text(tmp_path / ("n" * 300), "x")


def test_json_has_null_for_nan_and_csv_has_nothing(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": NAN, "b": [1.5, NAN], "c": {"d": "é"}})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": None, "b": [1.5, None], "c": {"d": "é"}}
    assert "é" in text
    cell = Cell("a", "b + 0.5*c", 1 / 3, -0.25, 1.0, NAN, 0.1, 1e-12, 7, 0, NAN, 0.05)
    write_rows(tmp_path / "matrix.csv", [cell], Cell)
    assert (tmp_path / "matrix.csv").read_text() == (
        "base,downstream,psi,ratio_of_means,median,psi_logit,ci_low,ci_high,n,excluded,p,q\n"
        "a,b + 0.5*c,0.333333,-0.25,1,,0.1,1e-12,7,0,,0.05\n"
    )
    table = Run(tmp_path).matrix()
    assert table["psi_logit"].to_list() == [None]
    assert table["n"].dtype == pl.Int64


# -- reading ----------------------------------------------------------------------------------------------------------


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(BadInput, match=r"holds no run\.json"):
        run.record()
    (tmp_path / "run.json").write_text('{"schema": ')
    with pytest.raises(BadInput, match="cannot be read"):
        run.record()
    (tmp_path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(RunMismatch, match="schema version 99"):
        run.record()
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(RunMismatch, match="schema version None"):
        run.record()
    for read in (run.matrix, run.effects, run.findings, run.responses, run.scores):
        with pytest.raises(BadInput, match=r"did not end|holds no"):
            read()


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "responses" / "00000.parquet", pl.DataFrame({"x": [1]}))
    (tmp_path / "responses" / "00001.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "responses" / ".00002.parquet.part").write_bytes(b"killed")
    with pytest.raises(BadInput, match=r"00001\.parquet is damaged .*delete that file"):
        Run(tmp_path).responses()


def test_differences_between_runs_are_named(tmp_path: Path) -> None:
    old = {"settings": {"limit": 200, "search": {"drop": 0.6}}, "data": {"hash": "a"}}
    refuse_other(old, json.loads(json.dumps(old)), tmp_path)
    new = {"settings": {"limit": 100, "search": {"drop": 0.5}}, "data": {"hash": "a"}}
    with pytest.raises(
        RunMismatch, match=r"settings\.limit was 200, now 100; settings\.search\.drop was 0\.6, now 0\.5"
    ):
        refuse_other(old, new, tmp_path)


def test_worlds_are_as_exact_as_they_say() -> None:
    coder = worlds.LinearAutoencoder()
    images = worlds.images(50)
    assert images.min() > 0
    assert images.max() < 1
    assert torch.allclose(coder.decode(coder.encode(images)), images, atol=1e-5)
    logits = worlds.LinearHeads()(images)
    assert torch.allclose(logits, worlds.GAIN * worlds.latents(50) @ worlds.MIXING, atol=1e-4)
