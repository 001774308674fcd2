"""Tables as users have them: which column names the images, what cells mean, forms of text, and what is said."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfalign._errors import BadInput
from cfalign.datasets import LabelReading, Labels, read_labels
from cfalign.datasets.linked_folders import LinkedIds

NAN = float("nan")
NUMBERED = tuple(f"{i}.png" for i in range(1, 9))
HAT = [float(i > 4) for i in range(1, 9)]


def table(path: Path, text: str, *, encoding: str = "utf-8") -> Path:
    file = path / "labels.csv"
    file.write_bytes(text.encode(encoding))
    return file


def rows(path: Path, header: str, cells: Sequence[Sequence[object]]) -> Path:
    lines = [header, *(",".join(map(str, row)) for row in cells)]
    return table(path, "\n".join(lines) + "\n")


def reading(labels: Labels) -> LabelReading:
    assert labels.reading is not None
    return labels.reading


# ------------------------------------------------------------------ the column that names the images


@pytest.mark.parametrize("header", ["id,img_path", "image_id,photo", "image,where", "file,x"])
def test_file_names_win_over_numbers_that_fit_by_chance(tmp_path: Path, header: str) -> None:
    file = rows(tmp_path, f"{header},hat", [(9 - i, f"{i}.png", int(i > 4)) for i in range(1, 9)])
    labels = read_labels(file, ids=NUMBERED)
    assert labels.column("hat").tolist() == HAT
    first, second = header.split(",")
    assert reading(labels).image_column == second
    assert reading(labels).said == (
        f"The column {second!r} names the images, as its values say more; the column {first!r} fits images too, but "
        f"other ones: --id-column {first!r} takes it instead.",
    )
    other = read_labels(file, ids=NUMBERED, id_column=first)
    assert other.column("hat").tolist() == HAT[::-1]
    assert reading(other).named_by == "number"


@pytest.mark.parametrize(
    "name",
    [
        "{}.png",
        "{}",
        "data/{}.png",
        "/mnt/old/data/{}.png",
        "C:\\Users\\me\\data\\{}.png",
        "./{}.PNG",
        "{}.jpg",
    ],
)
@given(st.permutations(range(8)), st.permutations(range(8)), st.permutations(range(4)))
@settings(max_examples=15, deadline=None)
def test_permuted_and_decoyed_columns(
    tmp_path_factory: pytest.TempPathFactory, name: str, order: list[int], decoy: list[int], places: list[int]
) -> None:
    """Whatever the order of rows and columns, and whatever numbers stand beside them, the names decide."""
    images = [f"data/büro_{i}.png" for i in range(8)]
    cells = {
        "id": [str(i) for i in decoy],
        "where": [name.format(f"büro_{i}") for i in order],
        "hat": [str(i % 2) for i in order],
        "age": [str(20 + i) for i in decoy],
    }
    header = [list(cells)[i] for i in places]
    lines = [",".join(header), *(",".join(cells[column][row] for column in header) for row in range(8))]
    form: tuple[str, str] = ("NFD" if order[0] % 2 else "NFC", "NFD" if decoy[0] % 2 else "NFC")
    text = unicodedata.normalize(form[0], "\n".join(lines))  # type: ignore[arg-type]
    ids = [unicodedata.normalize(form[1], image) for image in images]  # type: ignore[arg-type]
    labels = read_labels(table(tmp_path_factory.mktemp("decoys"), text), ids=ids)
    assert labels.column("hat").tolist() == [float(i % 2) for i in range(8)]
    assert reading(labels).image_column == "where"


@given(st.permutations(range(1, 9)))
@settings(max_examples=25, deadline=None)
def test_columns_that_fit_equally_well_are_asked_for(
    tmp_path_factory: pytest.TempPathFactory, decoy: list[int]
) -> None:
    cells = [(i, number, int(i > 4)) for i, number in enumerate(decoy, start=1)]
    file = rows(tmp_path_factory.mktemp("ties"), "id,number,hat", cells)
    if decoy == sorted(decoy):
        assert read_labels(file, ids=NUMBERED).column("hat").tolist() == HAT
        return
    with pytest.raises(BadInput, match=r"columns 'id' and 'number' .* both name the images.* --id-column 'id'"):
        read_labels(file, ids=NUMBERED)
    assert read_labels(file, ids=NUMBERED, id_column="ID").column("hat").tolist() == HAT


def test_of_equal_columns_a_header_of_images_decides_and_is_said(tmp_path: Path) -> None:
    file = rows(tmp_path, "mirror,image,hat", [(f"{9 - i}.png", f"{i}.png", int(i > 4)) for i in range(1, 9)])
    labels = read_labels(file, ids=NUMBERED)
    assert labels.column("hat").tolist() == HAT
    assert "its name speaks of images; the column 'mirror' fits images too" in reading(labels).said[0]


def test_a_number_of_rows_or_persons_never_wins_a_tie(tmp_path: Path) -> None:
    cells = [(9 - i, (i * 3) % 8 + 1, i, int(i > 4)) for i in range(1, 9)]
    labels = read_labels(rows(tmp_path, ",person_id,number,hat", cells), ids=NUMBERED)
    assert labels.column("hat").tolist() == HAT
    assert reading(labels).image_column == "number"


def test_numbers_without_a_header_that_says_so_are_no_names(tmp_path: Path) -> None:
    file = rows(tmp_path, "age,hat", [(i, int(i > 4)) for i in range(1, 9)])
    with pytest.raises(BadInput, match=r"No column of .* surely names the images.* --id-column 'age'"):
        read_labels(file, ids=NUMBERED)
    assert read_labels(file, ids=NUMBERED, id_column="age").column("hat").tolist() == HAT


def test_numbers_beside_file_names_of_other_images_are_no_names(tmp_path: Path) -> None:
    file = rows(tmp_path, "id,img_path,hat", [(9 - i, f"other_{i}.png", int(i > 4)) for i in range(1, 9)])
    with pytest.raises(BadInput, match=r"None of the file names in the column 'img_path'.*'other_1\.png'.*in 'id'"):
        read_labels(file, ids=NUMBERED)
    assert read_labels(file, ids=NUMBERED, id_column="id").column("hat").tolist() == HAT[::-1]


def test_few_file_names_that_fit_are_better_than_many_numbers(tmp_path: Path) -> None:
    cells = [(9 - i, f"{i}.png" if i < 3 else f"gone_{i}.png", int(i > 1)) for i in range(1, 9)]
    labels = read_labels(rows(tmp_path, "id,img_path,hat", cells), ids=NUMBERED)
    np.testing.assert_array_equal(labels.column("hat"), [0, 1] + [NAN] * 6)
    assert (labels.unmatched_rows.count, labels.images_without_row.count) == (6, 6)


def test_a_column_of_other_images_with_blanks_is_no_better_than_the_one_of_all_rows(tmp_path: Path) -> None:
    cells = [("2.png", "1.png", 0), ("1.png", "2.png", 1), ("", "gone_1.png", 0), ("", "gone_2.png", 0)]
    with pytest.raises(BadInput, match=r"columns 'after' and 'where' .* both name the images"):
        read_labels(rows(tmp_path, "after,where,hat", cells), ids=NUMBERED[:4])
    labels = read_labels(rows(tmp_path, "after,file,hat", cells), ids=NUMBERED[:4])
    np.testing.assert_array_equal(labels.column("hat"), [0, 1, NAN, NAN])


def test_a_number_of_rows_that_knows_more_images_than_the_numbers_of_images(tmp_path: Path) -> None:
    cells = [(8, "5", 1), (7, "6", 0), (6, "7", 1), (5, "8", 0), (4, "gone_1.png", 1), (3, "gone_2.png", 1)]
    with pytest.raises(BadInput, match=r"columns 'id' and 'img_path' .* both name the images"):
        read_labels(rows(tmp_path, "id,img_path,hat", cells), ids=NUMBERED)


def test_padded_numbers_are_names_and_no_attribute(tmp_path: Path) -> None:
    labels = read_labels(table(tmp_path, "image,hat\n000000,0\n000001,1\n"), ids=["000001.png", "000000.png"])
    assert labels.column("hat").tolist() == [1, 0]


def test_an_id_column_that_is_not_there_or_fits_nothing(tmp_path: Path) -> None:
    file = rows(tmp_path, "image,hat,note", [("1.png", 1, "x")])
    with pytest.raises(BadInput, match=r"id_column: .* has no column 'imag'; nearest valid: image"):
        read_labels(file, ids=NUMBERED, id_column="imag")
    with pytest.raises(BadInput, match=r"None of the 1 rows.*'note' has for example 'x'"):
        read_labels(file, ids=NUMBERED, id_column="note")


def test_two_files_that_differ_in_their_unicode_form_only(tmp_path: Path) -> None:
    composed, taken_apart = unicodedata.normalize("NFC", "ü.png"), unicodedata.normalize("NFD", "ü.png")
    file = table(tmp_path, f"image,hat\n{taken_apart},1\n{composed},0\n")
    assert read_labels(file, ids=[composed, taken_apart]).column("hat").tolist() == [0, 1]


def test_rows_may_name_a_folder_by_its_link(tmp_path: Path) -> None:
    ids = LinkedIds(["v2/0.png", "v2/1.png", "v2/2.png"], {"current": "v2", "best/now": "v2"})
    file = table(tmp_path, "image,hat\ncurrent/0.png,1\nv2/1.png,0\n/disk/data/best/now/2.png,1\n")
    assert read_labels(file, ids=ids).column("hat").tolist() == [1, 0, 1]
    both = table(tmp_path, "image,hat\ncurrent/0.png,1\nv2/0.png,0\n")
    with pytest.raises(BadInput, match=r"belong to one image, 'v2/0\.png', and differ in 'hat'"):
        read_labels(both, ids=ids)


# ------------------------------------------------------------------ what cells mean

SEX = "image,sex,hat\n1.png,M,1\n2.png,F,0\n3.png,,1\n4.png,m,0\n"


def test_two_values_are_offered_and_read_when_named(tmp_path: Path) -> None:
    file = table(tmp_path, SEX)
    offer = (
        "'sex' has two values, 'M' (2) and 'F' (1): --positive sex=M, in Python positive={'sex': 'M'}, reads 'M' as "
        "present and 'F' as absent"
    )
    labels = read_labels(file, ids=NUMBERED[:4])
    assert labels.targets == ("hat",)
    assert labels.ignored_columns == {"sex": offer}
    assert reading(labels).said_of_attributes == (f"Not read as an attribute: {offer}.",)
    named = read_labels(file, ids=NUMBERED[:4], positive={"Sex": "f"})
    assert named.targets == ("sex", "hat")
    np.testing.assert_array_equal(named.column("sex"), [0, 1, NAN, 0])
    assert reading(named).said_of_attributes == ("The column 'sex': 'F' (1) is present, 'M' (2) absent.",)


def test_one_or_several_of_many_values_may_be_named(tmp_path: Path) -> None:
    file = table(tmp_path, "image,grade\n1.png,4\n2.png,5.0\n3.png,2\n4.png,unknown\n")
    labels = read_labels(file, ids=NUMBERED[:4], positive={"grade": ["4", "5"]})
    np.testing.assert_array_equal(labels.column("grade"), [1, 1, 0, NAN])


def test_only_attributes_that_have_to_be_named(tmp_path: Path) -> None:
    file = table(tmp_path, "image,kind\n1.png,benign\n2.png,malignant\n")
    with pytest.raises(BadInput, match=r"must have an attribute.*--positive kind=benign, in Python.* reads"):
        read_labels(file, ids=NUMBERED)


@pytest.mark.parametrize(
    ("positive", "message"),
    [
        ({"sx": "M"}, r"positive: .* has no column 'sx'; nearest valid: sex"),
        ({"sex": "X"}, r"positive: the column 'sex' of .* has no value 'X'; it has m, f"),
        ({"image": "1.png"}, r"positive: the column 'image' .* names the images"),
    ],
)
def test_a_value_or_column_that_is_not_there(tmp_path: Path, positive: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_labels(table(tmp_path, SEX), ids=NUMBERED[:4], positive=positive)


CHEST = "Path,Edema,Fracture,Support\n1.png,1.0,,1.0\n2.png,-1.0,-1.0,1.0\n3.png,0.0,1.0,1.0\n4.png,,1.0,\n"


@pytest.mark.parametrize(("uncertain", "value"), [(None, NAN), ("ignore", NAN), ("positive", 1.0), ("negative", 0.0)])
def test_minus_one_beside_zero_is_uncertain_in_the_whole_table(
    tmp_path: Path, uncertain: str | None, value: float
) -> None:
    labels = read_labels(table(tmp_path, CHEST), ids=NUMBERED[:4], uncertain=uncertain)  # type: ignore[arg-type]
    np.testing.assert_array_equal(labels.column("edema"), [1, value, 0, NAN])
    np.testing.assert_array_equal(labels.column("fracture"), [NAN, value, 1, 1])
    np.testing.assert_array_equal(labels.column("support"), [1, 1, 1, NAN])
    assert reading(labels).uncertain == {"edema": 1, "fracture": 1}
    assert reading(labels).said_of_attributes[0].startswith("2 cells say uncertain (−1 or a word) and are ")


def test_minus_one_without_zero_is_absent(tmp_path: Path) -> None:
    celeba = table(tmp_path, "image,male,young\n1.png,1,-1\n2.png,-1,-1\n")
    for uncertain in (None, "ignore", "positive"):
        labels = read_labels(celeba, ids=NUMBERED[:2], uncertain=uncertain)  # type: ignore[arg-type]
        assert labels.values.tolist() == [[1, 0], [0, 0]]
        assert reading(labels).said_of_attributes == ()


def test_minus_one_beside_blanks_and_ones_is_absent_said_and_asked_for(tmp_path: Path) -> None:
    file = table(tmp_path, "image,male\n1.png,1\n2.png,-1\n3.png,\n")
    labels = read_labels(file, ids=NUMBERED[:3])
    np.testing.assert_array_equal(labels.column("male"), [1, 0, NAN])
    assert "−1 is read as absent in male" in reading(labels).said_of_attributes[0]
    labels = read_labels(file, ids=NUMBERED[:3], uncertain="ignore")
    np.testing.assert_array_equal(labels.column("male"), [1, NAN, NAN])


def test_an_unknown_word_for_uncertain(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="uncertain: expected ignore, positive or negative, got 'maybe'"):
        read_labels(table(tmp_path, CHEST), ids=NUMBERED, uncertain="maybe")  # type: ignore[arg-type]


def test_a_person_column_of_zeros_and_ones_is_said(tmp_path: Path) -> None:
    labels = read_labels(table(tmp_path, "image,person,patient\n1.png,1,0\n2.png,0,1\n"), ids=NUMBERED[:2])
    assert labels.targets == ("person",)
    assert reading(labels).said_of_attributes == ("1 column is no attribute: 'patient' (its name marks a person).",)


# ------------------------------------------------------------------ forms of text

PLAIN = "image,hat,note\n1.png,1,x\n2.png,0,y\n3.png,1,z\n"
DECIMAL_COMMAS = "image;hat;note\n1.png;1,0;x\n2.png;0,0;y\n3.png;1,0;z\n"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (PLAIN, "commas"),
        ("sep=;\n" + PLAIN.replace(",", ";"), "semicolons"),
        ("SEP=|\r\n" + PLAIN.replace(",", "|").replace("\n", "\r\n"), "bars"),
        ("# made by hand, in May\n#\n\n" + PLAIN, "commas"),
        ("#image,hat,note\n" + PLAIN.partition("\n")[2], "commas"),
        (PLAIN.replace(",", "\t"), "tabs"),
        (PLAIN.replace("image", '"image"').replace("1.png", '"1.png"'), "commas"),
        (PLAIN + "\n\n", "commas"),
        (DECIMAL_COMMAS, "semicolons"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_forms_of_text_say_the_same(tmp_path: Path, text: str, form: str, encoding: str) -> None:
    labels = read_labels(table(tmp_path, text, encoding=encoding), ids=NUMBERED[:3])
    assert labels.targets == ("hat",)
    assert labels.column("hat").tolist() == [1, 0, 1]
    assert labels.extra == {"note": ("x", "y", "z")}
    assert f"separated by {form}" in reading(labels).form


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("1.png,1\n2.png,0\n3.png,1\n", "1.png"),
        ("other/9.jpg,1\n2.png,0\n", "other/9.jpg"),
        ("1,0\n2,1\n3,1\n", "1"),
        ("000001,1,0\n000002,0,1\n", "000001"),
        ("face,M\nhand,F\nfoot,M\n", "face"),
    ],
)
def test_a_table_without_header_is_refused(tmp_path: Path, text: str, first: str) -> None:
    ids = (*NUMBERED, "000001.png", "000002.png", "face.png", "hand.png", "foot.png")
    with pytest.raises(BadInput, match=f"first line of .* must name the columns.*got '{first}', which is data"):
        read_labels(table(tmp_path, text), ids=ids)


def test_names_of_columns_that_are_numbers_or_names_of_images(tmp_path: Path) -> None:
    file = table(tmp_path, "image,0,1\n1.png,1,0\nimage.png,0,1\n")
    labels = read_labels(file, ids=["1.png", "image.png"])
    assert labels.targets == ("0", "1")
    assert labels.values.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('image,hat\n1.png,"1\n2.png,0\n3.png,1"\n', "quotation mark that swallows rows.*line 4"),
        ('image,hat\n1.png,1\n2.png,"0\n3.png,1"\n', "quotation mark that swallows rows.*line 4"),
        ('image,hat\n1.png,"1\n2.png,0\n', r"cannot be read: unexpected end of data \(line 3\)"),
        ('image,hat\n1.png,"1"x\n', r"cannot be read: ',' expected after '\"' \(line 2\)"),
        ("# c\n\nimage,hat\n1.png,1\n2.png\n", "must have 2 columns.*got 1 in line 5"),
        ("image,hat,hat\n1.png,1,1\n", "two columns for 'hat'"),
        ("image,hat\n1.png,1\n1.png,0\n", r"Rows 1 \('1.png'\) and 2 .* one image, '1.png', and differ in 'hat'"),
        ("image,hat,split\n1.png,1,train\n1.png,1,val\n", "differ in 'split'"),
        ("image,hat\n1.png,1\n1.png,\n", "differ in 'hat'"),
    ],
)
def test_text_that_would_lose_something_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_labels(table(tmp_path, text), ids=NUMBERED)


def test_a_note_of_several_lines_is_a_cell(tmp_path: Path) -> None:
    file = table(tmp_path, 'image,hat,note\n1.png,1,"two\nlines"\n2.png,0,"a, b"\n')
    assert read_labels(file, ids=NUMBERED[:2]).extra["note"] == ("two\nlines", "a, b")


def test_lines_that_are_no_rows_and_rows_that_repeat_are_counted(tmp_path: Path) -> None:
    header = "image,hat,note\n"
    text = f"# c\n{header}1.png,1,x\n,,\n{header}# more\n2.png,0,y\n1.png,1.0,other\n9.png,1,x\n\n"
    labels = read_labels(table(tmp_path, text), ids=NUMBERED[:3])
    np.testing.assert_array_equal(labels.column("hat"), [1, 0, NAN])
    assert reading(labels).rows == {
        "given": 4,
        "of_images": 2,
        "repeated": 1,
        "without_image": 1,
        "not_rows_blank": 1,
        "not_rows_comments": 2,
        "not_rows_headers": 1,
    }
    assert reading(labels).said == (
        "Not read as rows: 1 blank row, 2 lines of comments, 1 repeated header line.",
        "1 row says again what another row of the same image says; the first one counts (they differ in 'note').",
    )
    assert reading(labels).images == {"given": 3, "with_row": 2, "without_row": 1}


def test_how_labels_were_read_is_plain_json(tmp_path: Path) -> None:
    record = reading(read_labels(table(tmp_path, SEX), ids=NUMBERED)).as_dict()
    assert json.loads(json.dumps(record)) == record
    assert (record["table"], record["image_column"], record["attributes"]) == ("labels.csv", "image", 1)
    assert set(record["left_out"]) == {"sex"}
