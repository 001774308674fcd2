"""How a command reads labels is asked for by flags, told on stderr and kept in the record of what it made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import worlds

TINY = ("--size", "16", "--set", "steps=2", "--set", "batch=8")
ROWS = [(f"{i:04d}.png", "M" if i % 2 else "F", (1, 0, -1)[i % 3], "val" if i < 25 else "train") for i in range(150)]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with images and a table whose column `id` fits images by chance."""
    worlds.write_images(tmp_path / "photos", 150)
    lines = ["number,image,sex,edema,split"]
    lines += [f"{149 - i:04d},{','.join(map(str, row))}" for i, row in enumerate([*ROWS, ("gone.png", "M", 1, "val")])]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def audited(desk: Path, *more: object) -> worlds.Ended:
    models = Path(worlds.__file__)
    given = {"classifier": f"{models}:heads", "autoencoder": f"{models}:autoencoder", "split": "val", "out": "run"}
    words = worlds.options(images="photos", labels="labels.csv", **given)
    return worlds.cfalign("audit", *words, *more, folder=desk)


def trained(desk: Path, *more: object) -> worlds.Ended:
    words = worlds.options(images="photos", labels="labels.csv", out="heads")
    return worlds.cfalign("train", "classifier", *words, *TINY, *more, folder=desk)


def test_an_audit_of_a_split_keeps_how_the_split_was_read(desk: Path) -> None:
    ended = audited(desk)
    assert ended.code == 0, ended.err
    assert (
        "cfalign: Labels of labels.csv: the column 'image' names the images by path or file name, 150 of 151 rows fit; "
        "1 attribute.\n"
    ) in ended.err
    assert "--id-column 'number' takes it instead." in ended.err
    assert "--positive" not in ended.err, "an audit reads no attributes"
    record = json.loads((desk / "run" / "run.json").read_text())
    assert record["data"]["images"] == 25
    labels = record["labels"]
    assert labels["image_column"] == "image"
    assert (labels["rows"]["given"], labels["rows"]["without_image"]) == (151, 1)
    assert labels["uncertain"] == {"edema": 50}
    assert set(labels["left_out"]) == {"number", "sex"}


def test_an_audit_may_name_the_column_of_images(desk: Path) -> None:
    ended = audited(desk, "--id-column", "number")
    assert ended.code == 0, ended.err
    assert json.loads((desk / "run" / "run.json").read_text())["labels"]["image_column"] == "number"


def test_a_training_says_and_keeps_how_its_labels_were_read(desk: Path) -> None:
    ended = trained(desk)
    assert ended.code == 0, ended.err
    assert "Not read as an attribute: 'sex' has two values, 'F' (75) and 'M' (76): --positive sex=F" in ended.err
    assert "50 cells say uncertain (−1 or a word) and are missing, in edema; --uncertain positive" in ended.err
    assert "1 rows match no image in labels.csv, e.g. gone.png." in ended.err
    kept = next(json.loads(p.read_text()) for p in (desk / "heads").glob("*.json") if '"labels"' in p.read_text())
    assert kept["labels"]["uncertain"] == {"edema": 50}


def test_a_training_reads_what_is_named(desk: Path) -> None:
    ended = trained(desk, "--positive", "sex=M", "--uncertain", "negative")
    assert ended.code == 0, ended.err
    assert "The column 'sex': 'M' (76) is present, 'F' (75) absent." in ended.err
    assert "50 cells say uncertain (−1 or a word) and are absent, in edema." in ended.err
    assert "sex " in ended.out


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--positive", "sex"), "--positive: expected COLUMN=VALUE, such as sex=M, got 'sex'."),
        (("--positive", "sx=M"), "positive: labels.csv has no column 'sx'; nearest valid: sex."),
        (("--positive", "sex=X"), "positive: the column 'sex' of labels.csv has no value 'X'; it has f, m."),
        (("--uncertain", "no"), "uncertain: expected ignore, positive or negative, got 'no'."),
        (("--id-column", "img"), "id_column: labels.csv has no column 'img'; nearest valid: image."),
    ],
)
def test_what_is_not_there_is_refused(desk: Path, more: tuple[str, ...], sentence: str) -> None:
    ended = trained(desk, *more)
    assert (ended.code, ended.out, ended.err) == (2, "", f"cfalign: {sentence}\n")


def test_an_audit_with_labels_of_its_heads_keeps_how_they_correlate_and_its_command(desk: Path) -> None:
    rows = [f"{i:04d}.png,{i % 2},{int(i % 4 < 2)}" for i in range(150)]
    (desk / "labels.csv").write_text("\n".join(["image,smiling,young", *rows]) + "\n")
    models = Path(worlds.__file__)
    named = {"classifier": f"{models}:heads", "autoencoder": f"{models}:autoencoder", "limit": 5, "out": "run"}
    ended = worlds.cfalign("audit", *worlds.options(images="photos", labels="labels.csv", **named), folder=desk)
    assert ended.code == 0, ended.err
    kept = desk / "run" / "label_correlations.csv"
    first = kept.read_text()
    assert first.splitlines()[1].startswith("smiling,young,")
    command = json.loads((desk / "run" / "run.json").read_text())["given"]["command"]
    assert command[:2] == ["cfalign", "audit"]
    assert command[command.index("--labels") + 1] == "labels.csv"
    assert "cfalign audit --classifier" in (desk / "run" / "model_card.md").read_text()
    kept.unlink()
    again = worlds.cfalign("report", "run", "--labels", "labels.csv", folder=desk)
    assert again.code == 0, again.err
    assert "card: run/model_card.md" in again.out
    assert kept.read_text() == first


def test_a_report_refuses_labels_that_it_cannot_use(desk: Path) -> None:
    assert audited(desk, "--limit", "5").code == 0
    ended = worlds.cfalign("report", "run", "--labels", "labels.csv", folder=desk)
    assert ended.code == 2
    assert "The labels know 0 of what the heads of run are about; expected columns of at least two" in ended.err
    ended = worlds.cfalign("report", "run", "--id-column", "image", folder=desk)
    assert ended.code == 2
    assert "--id-column needs --labels: it says how that table is read" in ended.err
