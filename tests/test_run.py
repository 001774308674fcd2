"""A run directory: its tables and conclusions through one door, what it is called, what is told of a damaged one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import cfalign
import worlds
from cfalign import Run
from cfalign._audit.conclusions import conclude
from cfalign._errors import BadInput, RunMismatch
from cfalign._results import Cell, Conclusions, Effect, GroupGap
from cfalign._runs import run as run_module
from cfalign._runs.codec import plain, write_parquet

OPTIONS = cfalign.AuditOptions(limit=12, shown=1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return cfalign.audit(
        worlds.images(40),
        worlds.audited(),
        autoencoder=worlds.autoencoder(),
        reference=cfalign.Reference(worlds.heads(), judge=worlds.judge()),
        options=OPTIONS,
        out=tmp_path_factory.mktemp("runs") / "run",
    )


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    shutil.copytree(run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def concluded(run: Run) -> Conclusions:
    """Worked out again from the shards."""
    parts = {name: run.record()[name] for name in ("bases", "heads", "audited", "attributes", "judges")}
    return conclude(run, **parts, options=OPTIONS, standings=run.conclusions().counts.standings)


def test_conclusions_come_back_as_the_audit_drew_them(run: Run) -> None:
    found, again = run.conclusions(), concluded(run)
    assert found.effects
    assert found.findings
    assert found.counts.controls
    for name in ("cells", "effects", "joint", "gaps", "relations", "counts"):
        assert repr(getattr(found, name)) == repr(getattr(again, name)), f"{name}, to the last digit"
    for one, other in zip(found.findings, again.findings, strict=True):
        assert one.rank == other.rank
        assert {**plain(one), "samples": None} == {**plain(other), "samples": None}
        assert {s.image_id for s in one.samples} <= {s.image_id for s in other.samples}
        assert all((run.path / file).is_file() for s in one.samples for file in s.files.values())


def test_tables_and_values_are_the_same_rows(run: Run) -> None:
    assert repr(run.cells()) == repr(list(run.conclusions().cells))
    for table, kind, size in (
        (run.matrix(), Cell, None),
        (run.effects(), Effect, "effect"),
        (run.gaps(), GroupGap, "gap"),
    ):
        rows = pl.DataFrame([plain(row) for row in run.rows(kind)], schema=table.schema)
        if size is not None:
            rows = rows.sort(pl.col(size).abs(), descending=True, nulls_last=True, maintain_order=True)
        assert_frame_equal(table, rows)
    assert run.findings() == [plain(f) for f in run.conclusions().findings]
    assert run.relations() == [plain(r) for r in run.conclusions().relations]
    assert run.findings() == json.loads((run.path / "findings.json").read_text())["findings"]


def test_effects_of_one_head_by_its_name_or_its_target(run: Run) -> None:
    table = run.effects("friendly")
    assert set(table["audited"]) == {"friendly"}
    sizes = table["effect"].abs().drop_nulls().to_list()
    assert sizes == sorted(sizes, reverse=True)
    assert run.gaps("nobody").is_empty()


def test_an_audit_reads_its_answers_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After that it reads where walks end, which is little, and it holds no whole table of them."""
    whole: list[str] = []
    original = run_module.read_parquet

    def counting(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
        if columns is None:
            whole.append(f"{path.parent.name}/{path.name}")
        return original(path, columns)

    monkeypatch.setattr(run_module, "read_parquet", counting)
    run = cfalign.audit(
        worlds.images(20), worlds.heads(), autoencoder=worlds.autoencoder(), options=OPTIONS, out=tmp_path / "run"
    )
    assert whole.count("responses/00000.parquet") == whole.count("scores/00000.parquet") == 1
    run.query("smiling > 0.2")
    run.query("smiling > 0.3")
    assert whole.count("responses/00000.parquet") == 2, "a table that is asked for is kept"
    assert whole.count("scores/00000.parquet") == 1


def test_a_table_that_changed_is_read_again(copy: Run) -> None:
    before = len(copy.responses())
    write_parquet(copy.path / "responses" / "00009.parquet", copy.responses().head(3))
    assert len(copy.responses()) == before + 3


def test_a_run_says_what_it_is(run: Run, copy: Run, tmp_path: Path) -> None:
    assert repr(run) == f"Run({str(run.path)!r}, audit, complete, 40 images)"
    record = json.loads((copy.path / "run.json").read_text())
    del record["images"]
    (copy.path / "run.json").write_text(json.dumps({**record, "status": "running"}))
    assert repr(copy) == f"Run({str(copy.path)!r}, audit, running, 40 images)"
    (copy.path / "run.json").write_text("{}")
    assert repr(copy) == f"Run({str(copy.path)!r}, no run yet)"
    assert repr(Run(tmp_path / "none")) == f"Run({str(tmp_path / 'none')!r}, no run yet)"


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"No run directory at .*nowhere: expected a folder that an audit wrote"):
        Run(tmp_path / "nowhere").record()
    run = Run(tmp_path)
    with pytest.raises(BadInput, match=r"holds no run\.json; give the folder"):
        run.record()
    (tmp_path / "run.json").write_text('{"schema": ')
    with pytest.raises(BadInput, match="cannot be read as JSON"):
        run.record()
    (tmp_path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(RunMismatch, match="written with schema version 99, this cfalign reads version 2"):
        run.record()
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(BadInput, match="holds no JSON object"):
        run.record()
    (tmp_path / "run.json").write_text('{"schema": 2}')
    for read in (run.matrix, run.cells, run.effects, run.gaps, run.findings, run.relations, run.conclusions):
        with pytest.raises(BadInput, match=r"did not end"):
            read()
    for read in (run.responses, run.scores):
        with pytest.raises(BadInput, match=r"holds no"):
            read()


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "responses" / "00000.parquet", pl.DataFrame({"x": [1]}))
    (tmp_path / "responses" / "00001.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "responses" / ".00002.parquet.part").write_bytes(b"killed")
    with pytest.raises(BadInput, match=r"00001\.parquet is damaged .*delete that file"):
        Run(tmp_path).responses()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("findings.json", "{}", "findings.json lacks 'findings'"),
        ("findings.json", '{"findings": [{}], "relations": []}', r"lacks 'findings\[0\].rank'"),
        ("run.json", '{"schema": 2, "images": 3}', "run.json lacks 'controls': the run is not complete"),
    ],
)
def test_damaged_conclusions_are_named(copy: Run, name: str, content: str, sentence: str) -> None:
    (copy.path / name).write_text(content)
    with pytest.raises(BadInput, match=rf"^[^\n]*{sentence}[^\n]*$"):
        copy.conclusions()
