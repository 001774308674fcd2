"""Files: whole or not there, exact texts of numbers, damaged files told in one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfalign._errors import BadInput, StorageFailed
from cfalign._findings import Finding, Sample
from cfalign._results import Cell, Counts, Effect, Followed, GroupGap, Relation, RelationKind, Skipped
from cfalign._runs.codec import (
    Misfit,
    built,
    file_name,
    plain,
    read_json,
    read_rows,
    read_table,
    write_json,
    write_parquet,
    write_rows,
    write_tensors,
    write_text,
    written,
)

NAN = float("nan")
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
COUNTS = st.integers(0, 2**53 + 1)
NAMES = st.one_of(st.sampled_from(["a,b", 'say "x"', "two\nlines", "\r", "", "nan", "1e5", " a ", "é"]), st.text())


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


# -- tables -----------------------------------------------------------------------------------------------------------


def test_csv_is_literally_this(tmp_path: Path) -> None:
    cell = Cell("a", 'b + 0.5*"c", d', 1 / 3, -0.25, 1.0, NAN, 0.1, 1e-12, 7, 0, NAN, 0.05)
    write_rows(tmp_path / "matrix.csv", [cell], Cell)
    assert (tmp_path / "matrix.csv").read_text() == (
        "base,downstream,psi,ratio_of_means,median,psi_logit,ci_low,ci_high,n,excluded,p,q\n"
        'a,"b + 0.5*""c"", d",0.3333333333333333,-0.25,1.0,,0.1,1e-12,7,0,,0.05\n'
    )


def rows_of(kind: type, strings: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[list[Any]]:
    by_type = {"str": strings, "float": NUMBERS, "int": COUNTS}
    return st.lists(st.builds(kind, **{f.name: by_type[str(f.type)] for f in fields(kind)}), max_size=4)


@pytest.mark.parametrize("kind", [Cell, Effect, GroupGap])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_rows_come_back_as_they_were(kind: type, tmp_path: Path, data: st.DataObject) -> None:
    """Every float to its last digit, whole numbers whole, NaN as NaN, names with commas, quotes and line ends."""
    rows = data.draw(rows_of(kind))
    write_rows(tmp_path / "rows.csv", rows, kind)
    back = read_rows(tmp_path / "rows.csv", kind)
    assert list(map(repr, back)) == list(map(repr, rows))
    table = read_table(tmp_path / "rows.csv", kind)
    assert table.columns == [f.name for f in fields(kind)]
    for f in fields(kind):
        values = [getattr(row, f.name) for row in rows]
        expected = [None if isinstance(v, float) and math.isnan(v) else v for v in values]
        assert table[f.name].to_list() == expected


@given(st.lists(NUMBERS, min_size=1))
def test_floats_are_written_by_their_shortest_exact_text(values: list[float]) -> None:
    text = pl.DataFrame({"x": values}).write_csv().splitlines()[1:]
    for value, written_text in zip(values, text, strict=True):
        if math.isfinite(value):
            assert float(written_text) == value
            assert len(written_text) <= len(repr(value)) + 1


EFFECTS = """\
audited,attribute,effect,ci_low,ci_high,incoming,outgoing,n,q
a,b,0.1,,,,,3,0.5
a,c,0.2,,,,,4,0.5
"""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "The run lacks .*effects.csv: it is not complete"),
        (b"", "cannot be read as CSV"),
        (b"\xff\xfe", "cannot be read as CSV"),
        (b"a,b\n", "has the header 'a,b' where 'audited,attribute,effect,"),
        (EFFECTS.replace("audited,", "head,").encode(), "has the header 'head,attribute"),
        (EFFECTS.replace("0.2", "much").encode(), "has 'much' in column 'effect' of row 2 where a number was expected"),
        (EFFECTS.replace(",4,", ",4.5,").encode(), "has '4.5' in column 'n' of row 2 where a number was expected"),
        (EFFECTS.replace(",4,", ",,").encode(), "has None in column 'n' of row 2 where a number was expected"),
        ((EFFECTS + "a,b\n").encode(), "has None in column 'n' of row 3"),
        ((EFFECTS + "a,b,1,1,1,1,1,1,1,1\n").encode(), "cannot be read as CSV"),
        ((EFFECTS + '"a,b,1,1,1,1,1,1,1\n').encode(), "cannot be read as CSV"),
    ],
)
def test_a_damaged_table_is_one_sentence(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "effects.csv"
    if content is not None:
        file.write_bytes(content)
    for read in (read_table, read_rows):
        with pytest.raises(BadInput, match=rf"^[^\n]*{sentence}[^\n]*$"):
            read(file, Effect)


# -- JSON -------------------------------------------------------------------------------------------------------------

SAMPLE = Sample("a", "b", "c", 0.1, 0.2, NAN, 0.4, 1 / 3, {"original": "images/a.png"})
FINDING = Finding(1, "x", "y", 0.5, 0.4, 0.6, 0.01, 0.3, NAN, NAN, 9, (SAMPLE, SAMPLE))
RELATION = Relation(RelationKind.ASYMMETRIC, "x", "y", 0.1, 40, 0.2, 0.1, 0.3, 0.01, NAN, 0.2)
COUNTED = Counts(
    controls={"y": Followed(0.9, 0.8, 1.0, 40)},
    outcomes={"y": {"reached": 3, "flat": 1}},
    exclusions={"y": {}},
    drift={"x": 0.01, "y": NAN},
    cost={"counterfactuals": 4, "search_decodes_per_cf": 1.5},
    images=7,
    skipped=(Skipped("b.png", "no image"),),
)


@pytest.mark.parametrize("value", [FINDING, RELATION, COUNTED])
def test_a_dataclass_comes_back_from_json_as_it_was(value: Any, tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", plain(value))
    back = built(type(value), read_json(tmp_path / "x.json"))
    assert repr(back) == repr(value)
    assert type(back) is type(value)


def test_json_has_null_for_what_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": NAN, "b": [1.5, NAN, (math.inf, -math.inf)], "c": {"d": "é"}})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": None, "b": [1.5, None, [None, None]], "c": {"d": "é"}}
    assert "é" in text


@pytest.mark.parametrize(
    ("kind", "value", "sentence"),
    [
        (Finding, {}, "lacks 'rank'"),
        (tuple[Finding, ...], [plain(FINDING), {"rank": 1}], r"lacks '[1].audited'"),
        (Finding, {**plain(FINDING), "samples": [{}]}, "lacks 'samples[0].image_id'"),
        (Finding, {**plain(FINDING), "n": "many"}, "has 'many' as n where a whole number was expected"),
        (Finding, {**plain(FINDING), "n": True}, "has True as n where a whole number was expected"),
        (Finding, {**plain(FINDING), "q": "0.1"}, "has '0.1' as q where a number was expected"),
        (Finding, {**plain(FINDING), "audited": 3}, "has 3 as audited where a text was expected"),
        (Finding, {**plain(FINDING), "samples": None}, "has None as samples where a list was expected"),
        (Relation, {**plain(RELATION), "kind": "x"}, "has 'x' as kind where one of correlated_not_used,"),
        (Counts, {**plain(COUNTED), "drift": {"x": []}}, "has [] as drift['x'] where a number was expected"),
        (Counts, [], "has [] as its content where an object was expected"),
    ],
)
def test_a_value_of_another_form_is_named(kind: Any, value: Any, sentence: str) -> None:
    with pytest.raises(Misfit) as caught:
        built(kind, value)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "lacks"), (b"{", "as JSON"), (b"\xff", "as JSON"), (b"[]", "holds no JSON object")]
)
def test_a_damaged_json_file_is_one_sentence(content: bytes | None, sentence: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadInput, match=rf"^[^\n]*{sentence}[^\n]*$"):
        read_json(tmp_path / "x.json")


# -- names of files ---------------------------------------------------------------------------------------------------

ALIKE = ["a:smiling", "a_smiling", "a/smiling", "a__smiling", "a/_b", "a_/b", "a//b", "..", ".", "", "/", "x" * 300]


@pytest.mark.parametrize("name", ["smiling", "5_o_clock_shadow", "0001.png", "no-beard", "é"])
def test_plain_names_are_names_of_files(name: str) -> None:
    assert file_name(name) == name
    assert file_name(f"faces/{name}") == f"faces__{name}"


@given(st.lists(st.one_of(st.sampled_from(ALIKE), st.text(alphabet="a_/:.", max_size=5), st.text()), unique=True))
def test_names_of_files_differ_and_are_safe(names: list[str]) -> None:
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(names)
    for file in files:
        assert file
        assert not file.startswith(".")
        assert not set(file) & set('/\\:*?"<>|\n\0 ')
        assert len(file.encode()) <= 200
