"""Labels from tables: kinds of table, attributes, splits, and rows that find their images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfalign._errors import BadInput
from cfalign.datasets import read_labels, target_name
from cfalign.datasets.matching import ImageNames, match_rows


def written(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


IDS = ("a/1.jpg", "a/2.jpg", "b/3.jpg")


def table(path: Path, text: str) -> Path:
    file = path / "labels.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_plain_table(tmp_path: Path) -> None:
    file = table(
        tmp_path,
        "image,identity,split,5_o_Clock_Shadow,Wavy Hair,no-beard,note\n"
        "a/2.jpg,77,Train,1,-1,true,ok\n"
        "zzz.jpg,78,val,0,1,false,gone\n"
        'b/3.jpg,79,val,,1,FALSE,"a, b"\n',
    )
    labels = read_labels(file, ids=IDS)
    assert labels.ids == IDS
    assert labels.targets == ("5_o_clock_shadow", "wavy_hair", "no_beard")
    nan = np.nan
    np.testing.assert_array_equal(labels.values, [[nan, nan, nan], [1, 0, 1], [nan, 1, 0]])
    assert labels.values.dtype == np.float64
    assert labels.split == (None, "train", "val")
    assert labels.extra == {"identity": (None, "77", "79"), "note": (None, "ok", "a, b")}
    assert (labels.unmatched_rows.count, labels.unmatched_rows.examples) == (1, ("zzz.jpg",))
    assert (labels.images_without_row.count, labels.images_without_row.examples) == (1, ("a/1.jpg",))
    assert set(labels.ignored_columns) == {"identity", "note"}
    assert labels.ignored_columns["note"] == "holds ok, gone, a, b"


def test_kinds_of_table_say_the_same(tmp_path: Path) -> None:
    rows = [("a/1.jpg", 1, True), ("b/3.jpg", 0, None)]
    frame = pl.DataFrame(rows, schema=["path", "smiling", "young"], orient="row")
    frame.write_parquet(tmp_path / "x.parquet")
    frame.write_csv(tmp_path / "x.csv")
    frame.write_csv(tmp_path / "x.tsv", separator="\t")
    frame.write_csv(tmp_path / "semicolon.csv", separator=";")
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "x.csv").read_bytes().replace(b"\n", b"\r\n"))
    frame.cast({"smiling": pl.Float32, "path": pl.Categorical}).write_parquet(tmp_path / "y.parquet")
    for name in ("x.parquet", "x.csv", "x.tsv", "semicolon.csv", "bom.csv", "y.parquet"):
        labels = read_labels(tmp_path / name, ids=IDS)
        assert labels.targets == ("smiling", "young"), name
        np.testing.assert_array_equal(labels.values, [[1, 1], [np.nan, np.nan], [0, np.nan]], err_msg=name)
        assert labels.split is None


def test_parquet_columns_that_are_no_plain_values_are_named(tmp_path: Path) -> None:
    frame = pl.DataFrame({"id": [1, 2], "y": [1.0, float("nan")], "box": [[1, 2], [3, 4]], "raw": [b"1", b"0"]})
    frame.write_parquet(tmp_path / "x.parquet")
    labels = read_labels(tmp_path / "x.parquet", ids=["1.png", "2.png"])
    np.testing.assert_array_equal(labels.values, [[1], [np.nan]])
    assert set(labels.ignored_columns) == {"box", "raw"}
    assert labels.extra == {}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("0", "1"), [0, 1]),
        (("1", "1"), [1, 1]),
        (("0", ""), [0, np.nan]),
        (("-1", "-1"), [0, 0]),
        (("-1", "1"), [0, 1]),
        (("-1.0", " 1.0 "), [0, 1]),
        (("1.000", "0"), [1, 0]),
        (("True", "false"), [1, 0]),
        (("NA", "1"), [np.nan, 1]),
        (("nan", "1"), [np.nan, 1]),
        (("-1", "0"), [np.nan, 0]),
        (("0", "2"), None),
        (("true", "1"), None),
        (("yes", "No"), [1, 0]),
        (("no", "no"), [0, 0]),
        (("JA", "nein"), [1, 0]),
        (("sí", "no"), [1, 0]),
        (("y", "n"), [1, 0]),
        (("y", "y"), None),
        (("positive", "unclear"), [1, np.nan]),
        (("present", "unknown"), [1, np.nan]),
        (("-1", ""), [np.nan, np.nan]),
        (("M", "F"), None),
        (("1", "2"), None),
        (("0,0", "1,0"), [0, 1]),
        (("0.5", "1"), None),
        (("", ""), None),
    ],
)
def test_what_counts_as_an_attribute(tmp_path: Path, cells: tuple[str, str], expected: list[float] | None) -> None:
    file = table(tmp_path, f"image;sure;maybe\n1.jpg;1;{cells[0]}\n2.jpg;0;{cells[1]}\n")
    labels = read_labels(file, ids=["1.jpg", "2.jpg"])
    if expected is None:
        assert labels.targets == ("sure",)
        assert "maybe" in labels.ignored_columns
        assert "maybe" in labels.extra
    else:
        np.testing.assert_array_equal(labels.column("maybe"), expected)


def test_identities_and_row_numbers_are_no_attributes_even_when_0_and_1(tmp_path: Path) -> None:
    file = table(tmp_path, ",image,identity,split,smiling\n0,1.jpg,0,0,1\n1,2.jpg,1,1,0\n")
    labels = read_labels(file, ids=["1.jpg", "2.jpg"])
    assert labels.targets == ("smiling",)
    assert labels.extra == {"column_1": ("0", "1"), "identity": ("0", "1")}
    assert labels.split == ("0", "1")


@pytest.mark.parametrize("header", ["image_id", "File Name", "PATH", "name", "id", "photo"])
def test_image_column_by_name_or_first_text(tmp_path: Path, header: str) -> None:
    file = table(tmp_path, f"score,{header},smiling\n0.3,a/1.jpg,1\n0.4,b/3.jpg,0\n")
    np.testing.assert_array_equal(read_labels(file, ids=IDS).column("smiling"), [1, np.nan, 0])


def test_of_several_image_columns_the_one_that_matches_counts(tmp_path: Path) -> None:
    file = table(tmp_path, "image_id,filename,smiling\n901,a/1.jpg,1\n902,b/3.jpg,0\n")
    labels = read_labels(file, ids=IDS)
    np.testing.assert_array_equal(labels.column("smiling"), [1, np.nan, 0])
    assert labels.extra["image_id"] == ("901", None, "902")


def test_labels_require_column_subset_and_split(tmp_path: Path) -> None:
    file = table(tmp_path, "image,split,smiling,young\na/1.jpg,train,1,0\na/2.jpg,val,0,1\nb/3.jpg,val,1,1\n")
    labels = read_labels(file, ids=IDS)
    some = labels.require(["Young"])
    assert some.targets == ("young",)
    np.testing.assert_array_equal(some.values, [[0], [1], [1]])
    with pytest.raises(BadInput, match=r"no attribute 'smilling'; nearest valid: smiling"):
        labels.require(["smilling"])
    assert labels.in_split("val").tolist() == [False, True, True]
    val = labels.subset(labels.in_split("VAL"))
    assert val.ids == ("a/2.jpg", "b/3.jpg")
    assert val.split == ("val", "val")
    assert len(val) == 2
    np.testing.assert_array_equal(labels.subset(["b/3.jpg", "a/1.jpg"]).values, [[1, 1], [1, 0]])
    with pytest.raises(BadInput, match="No image is in the split 'test'; the table has train, val"):
        labels.in_split("test")
    unsplit = read_labels(table(tmp_path, "image,smiling\na/1.jpg,1\n"), ids=IDS)
    with pytest.raises(BadInput, match="'val' needs a column split"):
        unsplit.in_split("val")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with a header line, got an empty one"),
        ("image,smiling\n", "must hold a row below its header, got none"),
        ("image,smiling\n\n ,\n", "must hold a row below its header, got none"),
        (
            "smiling,young\n1,0\n",
            r"must have an image column, with names such as '.*'; got .* smiling, young \(--id-column",
        ),
        ("image,age\na/1.jpg,33\n", "must have an attribute, a column of 0/1.*'age' holds 33"),
        ("image\na/1.jpg\n", "must have an attribute.*image column only"),
        ("image,Big Lips,big_lips\na/1.jpg,1,1\n", "two columns for 'big_lips': 'Big Lips' and 'big_lips'"),
        ("image,x,x\na/1.jpg,1,1\n", "two columns for 'x'"),
        ("image,x\na/1.jpg,1\na/1.jpg,0\n", r"Rows 1 \('a/1.jpg'\) and 2 .* belong to one image, 'a/1.jpg'"),
        ("image,x\n1.jpg,1\nold/a/1.jpg,0\n", "belong to one image, 'a/1.jpg'"),
        ("image,x\nq.jpg,1\n", r"None of the 1 rows .* has for example 'q\.jpg', the images for example 'a/1\.jpg'"),
        ("image,x\na/1.jpg,1\na/2.jpg,1,0\n", "must have 2 columns.*got 3 in line 3"),
        ("image,x\na/1.jpg,1\na/2.jpg\n", "must have 2 columns.*got 1 in line 3"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read_labels(table(tmp_path, text), ids=IDS)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such labels table"):
        read_labels(tmp_path / "none.csv", ids=IDS)
    with pytest.raises(BadInput, match="holds no labels: expected a COCO, FiftyOne or YOLO export"):
        read_labels(tmp_path, ids=IDS)
    with pytest.raises(BadInput, match=r"must be one of \.csv, \.tsv, \.parquet"):
        read_labels(written(tmp_path / "x.xlsx", b"no table"), ids=IDS)
    (tmp_path / "x.csv").write_bytes("image,façade\na/1.jpg,1\n".encode("latin-1"))
    with pytest.raises(BadInput, match="must be UTF-8"):
        read_labels(tmp_path / "x.csv", ids=IDS)
    (tmp_path / "x.csv").write_text("image,x\na/1.jpg," + "1" * 200_000)
    with pytest.raises(BadInput, match="cannot be read: field larger"):
        read_labels(tmp_path / "x.csv", ids=IDS)
    for content in (b"", b"PAR1 nonsense PAR1", os.urandom(500)):
        (tmp_path / "x.parquet").write_bytes(content)
        with pytest.raises(BadInput, match=r"cannot be read|holds no row"):
            read_labels(tmp_path / "x.parquet", ids=IDS)


def test_a_table_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = table(tmp_path, "image,x\na/1.jpg,1\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BadInput, match="cannot be read: Permission denied"):
        read_labels(file, ids=IDS)


# ------------------------------------------------------------------ rows and images


@pytest.mark.parametrize(
    ("rows", "ids", "expected"),
    [
        (["a/x.jpg"], ["a/x.jpg"], [0]),
        (["./a\\x.jpg"], ["a/x.jpg"], [0]),
        (["x.jpg"], ["a/x.jpg"], [0]),
        (["/mnt/old/a/x.jpg"], ["a/x.jpg"], [0]),
        (["set/a/x.jpg"], ["x.jpg", "a/x.jpg"], [-1, 0]),
        (["x"], ["a/x.jpg"], [0]),
        (["x.png"], ["x.jpg"], [0]),
        (["x.PNG", "y"], ["y.jpg", "x.jpg"], [1, 0]),
        (["b/x.jpg"], ["a/x.jpg"], [-1]),
        (["x.jpg", "x.png"], ["x.png", "x.jpg"], [1, 0]),
        (["x.jpg", "x.tif"], ["x.jpg"], [0]),
        (["dr.smith"], ["dr.jpg"], [-1]),
        ([None, "x.jpg"], ["x.jpg"], [1]),
        (["cafe\u0301.jpg"], ["caf\u00e9.jpg"], [0]),
        (["001"], ["1.jpg"], [-1]),
    ],
)
def test_matching(rows: list[str | None], ids: list[str], expected: list[int]) -> None:
    assert match_rows(rows, images=ImageNames(ids), table="t").row_of.tolist() == expected


def test_ambiguous_matches_are_refused() -> None:
    with pytest.raises(BadInput, match=r"Row 1 of t \('x\.jpg'\) fits 2 images, for example 'a/x\.jpg' and 'b/x\.jpg'"):
        match_rows(["x.jpg"], images=ImageNames(["a/x.jpg", "b/x.jpg"]), table="t")
    with pytest.raises(BadInput, match=r"fits 2 images, for example 'x\.jpg' and 'x\.png'"):
        match_rows(["x"], images=ImageNames(["x.jpg", "x.png"]), table="t")


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".jpg")


@given(st.lists(paths, unique=True, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_exact_paths_always_find_their_image_whatever_the_order(ids: list[str], random) -> None:  # type: ignore[no-untyped-def]
    rows = list(ids)
    random.shuffle(rows)
    found = match_rows(rows, images=ImageNames(ids), table="t").row_of
    assert [rows[row] for row in found] == ids


@given(st.text(max_size=30))
def test_target_names_are_lower_snake_case_and_stable(text: str) -> None:
    name = target_name(text)
    assert target_name(name) == name
    assert "__" not in name
    assert not any(mark in name for mark in " -./:*+")


def test_target_names() -> None:
    assert target_name("5_o_Clock_Shadow") == "5_o_clock_shadow"
    assert target_name(" Wavy Hair ") == "wavy_hair"
    assert target_name("No-Beard") == "no_beard"
