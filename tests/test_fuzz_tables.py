"""Generated tables of labels: read rightly or refused in one sentence; no row or column is lost in silence."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from cfalign._errors import BadInput
from cfalign.datasets import Labels, read_labels

TABLES = 400
SEPARATORS = (",", ";", "\t", "|")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "latin-1")


def images(rng: random.Random) -> list[str]:
    """Names of images, plain, in folders, or with umlauts."""
    kind = rng.choice(["{i}.png", "img_{i:03}.jpg", "a/{i}.png", "größe {i}.png", "x.{i}.jpeg"])
    return [kind.format(i=i) for i in range(rng.randint(2, 12))]


def written_name(rng: random.Random, image: str, style: str) -> str:
    """An image as a table may name it."""
    if style == "stem":
        return image.rpartition(".")[0]
    if style == "absolute":
        return f"/data/photos/{image}"
    if style == "windows":
        return f"C:\\photos\\{image}".replace("/", "\\")
    return image


def column(rng: random.Random, count: int) -> tuple[list[str], list[float] | None]:
    """Cells of a column, and what they mean where they must be an attribute."""
    kind = rng.choice(["01", "-11", "words", "uncertain", "text", "two", "number", "blank"])
    bits = [rng.randint(0, 1) for _ in range(count)]
    if kind == "01":
        return [str(b) for b in bits], [float(b) for b in bits]
    if kind == "words":
        return [("no", "yes")[b] for b in bits], [float(b) for b in bits]
    if kind == "-11":
        return [str(2 * b - 1) for b in bits], None  # all 1 or all −1 says nothing of 0
    if kind == "uncertain":
        return [rng.choice(["-1", "0", "1", ""]) for _ in bits], None
    if kind == "two":
        return [("F", "M")[b] for b in bits], None
    if kind == "number":
        return [f"{rng.random():.3f}" for _ in bits], None
    return ["" if kind == "blank" else rng.choice(["red", "=1+1", "__import__('os')", "a b"]) for _ in bits], None


def table(rng: random.Random, ids: list[str]) -> tuple[str, dict[str, list[float]], int]:
    """The text of a table, the attributes that it must have (by column), and its rows."""
    separator = rng.choice(SEPARATORS)
    style = rng.choice(["as it is", "stem", "absolute", "windows"])
    order = rng.sample(range(len(ids)), len(ids))
    columns: dict[str, list[str]] = {}
    must: dict[str, list[float]] = {}
    decoys = rng.randint(0, 2)
    for i in range(decoys):
        columns[f"decoy_{i}"] = [str(n) for n in rng.sample(range(100, 900), len(ids))]
    columns["image"] = [written_name(rng, ids[i], style) for i in order]
    for i in range(rng.randint(1, 5)):
        cells, meaning = column(rng, len(ids))
        columns[f"c{i}"] = cells
        if meaning is not None:
            must[f"c{i}"] = [meaning[order.index(k)] for k in range(len(ids))]
    names = rng.sample(list(columns), len(columns))
    lines = [separator.join(names)]
    lines += [separator.join(columns[name][row] for name in names) for row in range(len(ids))]
    if rng.random() < 0.15:
        lines.insert(0, f"sep={separator}")
    elif rng.random() < 0.15:
        lines.insert(0, "# made by hand")
    if rng.random() < 0.15:
        lines.append(separator.join(["nobody.png" if name == "image" else "" for name in names]))
    if rng.random() < 0.1:
        lines.append("")
    above = lines[0].startswith(("sep=", "# "))
    rows = sum(bool(line.strip(separator)) for line in lines) - 1 - above
    return rng.choice(["\n", "\r\n"]).join(lines) + "\n", must, rows


def reading_of(labels: Labels) -> object:
    """What was decided, for a message."""
    return None if labels.reading is None else labels.reading.as_dict()


def read_or_refused(file: Path, ids: list[str]) -> tuple[Labels | None, str]:
    """The labels, or None and the sentence of the refusal."""
    try:
        return read_labels(file, ids=ids), ""
    except BadInput as error:
        return None, str(error)


@pytest.mark.slow
def test_tables_are_read_rightly_or_refused(tmp_path: Path) -> None:
    read = 0
    for seed in range(TABLES):
        rng = random.Random(seed)
        ids = images(rng)
        text, must, rows = table(rng, ids)
        encoding = rng.choice(ENCODINGS)
        file = tmp_path / "t.csv"
        file.write_bytes(text.encode(encoding))
        labels, refusal = read_or_refused(file, ids)
        if labels is None:
            assert "\n" not in refusal, f"seed {seed}: {refusal}"
            readable = must and (encoding != "latin-1" or text.isascii())
            assert not readable, f"seed {seed}: a table that could be read was refused: {refusal}\n{text}"
            continue
        read += 1
        for name, values in must.items():
            assert name in labels.targets, f"seed {seed}: {name} is no attribute: {reading_of(labels)}\n{text}"
            np.testing.assert_array_equal(labels.column(name), values, err_msg=f"seed {seed}\n{text}")
        reading = labels.reading
        assert reading is not None
        counted = reading.rows
        assert counted["given"] == rows, f"seed {seed}: {dict(counted)}\n{text}"
        assert counted["of_images"] + counted["repeated"] + counted["without_image"] == rows, f"seed {seed}\n{text}"
    assert read > TABLES // 2


@pytest.mark.slow
def test_no_cell_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    cell = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    file = tmp_path / "t.csv"
    file.write_text(f'image,a,"{cell}"\n1.png,1,"{cell}"\n2.png,0,"{cell}"\n')
    labels = read_labels(file, ids=["1.png", "2.png"])
    assert labels.targets == ("a",)
    assert not mark.exists()
