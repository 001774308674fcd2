"""Generated tables of every kind that users bring: a right answer, or one sentence; nothing lost and nothing run.

Each table is drawn from one seed, which a failure names. What it says is known, so that every value that is read can be
compared, and every row and column that went in has to come out as read or as counted.
"""

from __future__ import annotations

import json
import random
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

import worlds
from cfalign._errors import CfalignError
from cfalign.datasets import Labels, read_labels, target_name

TABLES = 400
ON_THE_COMMAND_LINE = 20
NAN = float("nan")
BAIT = ("=cmd|' /C touch ran'!A0", "__import__('os').system('touch ran')", "$(touch ran)", "!!python/object/new:x []")
WATCHED = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "socket.connect")
Maker = Callable[[random.Random, int], list[str]]


# ------------------------------------------------------------------ what runs is noticed

_watching: list[str] | None = None


def _watch(event: str, _: tuple[Any, ...]) -> None:
    if _watching is not None and event in WATCHED:
        _watching.append(event)


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fails where the block starts a process, unpickles a class or opens a connection."""
    global _watching
    if not _installed:
        sys.addaudithook(_watch)
        _installed.append(True)
    _watching = []
    try:
        yield
        assert not _watching, _watching
    finally:
        _watching = None


_installed: list[bool] = []


# ------------------------------------------------------------------ tables whose content is known


def zero_one(rng: random.Random, value: int) -> str:
    return rng.choice((str(value), f"{value}.0"))


WORDINGS: dict[str, Callable[[random.Random, int], str]] = {
    "zero and one": zero_one,
    "plus and minus": lambda rng, value: rng.choice(("1", "1.0") if value else ("-1", "-1.0")),
    "true and false": lambda rng, value: rng.choice(("true", "TRUE") if value else ("False", "false")),
    "yes and no": lambda rng, value: rng.choice(("yes", "Yes") if value else ("no", "NO")),
    "ja and nein": lambda rng, value: "ja" if value else "nein",
    "wahr and falsch": lambda rng, value: "WAHR" if value else "FALSCH",
    "present and absent": lambda rng, value: "present" if value else "absent",
    "named": lambda rng, value: "M" if value else "F",
}
DECOYS: dict[str, Maker] = {
    "id": lambda rng, n: [str(i) for i in rng.sample(range(n), n)],
    "number": lambda rng, n: [str(i + 1) for i in rng.sample(range(n), n)],
    "patient_id": lambda rng, n: [str(rng.randrange(n)) for _ in range(n)],
    "": lambda rng, n: [str(i) for i in range(n)],
    "age": lambda rng, n: [str(rng.randrange(20, 90)) for _ in range(n)],
    "note": lambda rng, n: [rng.choice(("", "ok", "a b", *BAIT)) for _ in range(n)],
    "score": lambda rng, n: [f"{rng.random():.3f}" for _ in range(n)],
    "original": lambda rng, n: [f"IMG_{rng.randrange(10_000):04d}.JPG" for _ in range(n)],
    "empty": lambda rng, n: [""] * n,
    "split": lambda rng, n: [rng.choice(("train", "val")) for _ in range(n)],
}


@dataclass
class Drawn:
    """A table, the images it is for, and what it says of them."""

    ids: list[str]
    header: list[str]
    cells: list[list[str]]
    truth: dict[str, dict[str, float]]
    """Attribute → image → value; NaN where it is missing."""
    positive: dict[str, str]
    uncertain: str | None
    named_by_stems: bool = False
    hats: list[str] = field(default_factory=list)
    """What was done to it, for the message."""


def drawn(rng: random.Random) -> Drawn:
    """A table in memory."""
    count = rng.randrange(3, 13)
    style = rng.choice(("{}", "{:06d}", "büro_{}", "img {}", "a/{}", "ä b/{:03d}", "x.y_{}"))
    form: Any = rng.choice(("NFC", "NFD"))
    ids = [unicodedata.normalize(form, style.format(i)) + rng.choice((".png", ".jpg")) for i in range(count)]
    listed = rng.sample(ids, rng.randrange(max(1, count - 2), count + 1))
    stems = rng.random() < 0.2
    names = [image.rpartition(".")[0] if stems else _named(rng, image) for image in listed]
    others = [f"elsewhere/gone_{i}.png" for i in range(rng.choice((0, 0, 1, 3)))]
    columns: dict[str, list[str]] = {}
    columns[rng.choice(("image", "file", "img_path", "Where", "filename"))] = names + others
    rows = len(names) + len(others)
    uncertain = rng.choice((None, None, "ignore", "positive", "negative"))
    found = Drawn(ids, [], [], {}, {}, uncertain, named_by_stems=stems)
    for k in range(rng.randrange(1, 4)):
        _add_attribute(rng, found, columns, f"Hat {k}", listed, rows)
    if rng.random() < 0.3:
        _add_uncertain(rng, found, columns, listed, rows)
    for name in rng.sample(list(DECOYS), rng.randrange(5)):
        columns[name] = DECOYS[name](rng, rows)
    if not stems and rng.random() < 0.15:
        columns["previous"] = rng.sample(names, len(names)) + [""] * len(others)
    order = rng.sample(list(columns), len(columns))
    lines = list(zip(*(columns[name] for name in order), strict=True))
    rng.shuffle(lines)
    found.header, found.cells = order, [list(line) for line in lines]
    return found


def _named(rng: random.Random, image: str) -> str:
    """An image as a table may name it."""
    kind = rng.random()
    form: Any = rng.choice(("NFC", "NFD"))
    name = unicodedata.normalize(form, image)
    if kind < 0.5:
        return name
    if kind < 0.7:
        return f"/mnt/old disk/{name}"
    return "C:\\data\\" + name.replace("/", "\\") if kind < 0.85 else f"./{name}"


def _add_attribute(
    rng: random.Random, found: Drawn, columns: dict[str, list[str]], name: str, listed: list[str], rows: int
) -> None:
    wording = rng.choice(list(WORDINGS))
    write = WORDINGS[wording]
    blanks = wording != "plus and minus" and rng.random() < 0.3
    values = [NAN if blanks and rng.random() < 0.3 else float(rng.random() < 0.5) for _ in range(rows)]
    values[0] = 1.0
    values[-1] = 0.0 if rows > 1 else 1.0
    columns[name] = [rng.choice(("", "NA", "nan")) if v != v else write(rng, int(v)) for v in values]
    if wording == "named":
        found.positive[name] = "M"
    found.truth[target_name(name)] = dict(zip(listed, values, strict=False))
    found.hats.append(wording)


def _add_uncertain(
    rng: random.Random, found: Drawn, columns: dict[str, list[str]], listed: list[str], rows: int
) -> None:
    if any(wording == "plus and minus" for wording in found.hats):
        return  # one table has one meaning of −1
    texts = ["0", "-1", *(rng.choice(("1", "0", "-1", "")) for _ in range(rows))][:rows]
    unsure = {None: NAN, "ignore": NAN, "positive": 1.0, "negative": 0.0}[found.uncertain]
    meaning = {"1": 1.0, "0": 0.0, "": NAN, "-1": unsure}
    if rows < 2:
        return
    columns["Edema"] = texts
    found.truth["edema"] = dict(zip(listed, (meaning[text] for text in texts), strict=False))
    found.hats.append("uncertain")


# ------------------------------------------------------------------ tables as files

SOUND = ("none", "none", "none", "sep", "comment", "comment inside", "blank row", "header twice", "row twice")
DAMAGES = (*SOUND, "headless", "ragged", "quote", "column twice", "contradiction")


def write(rng: random.Random, table: Drawn, folder: Path) -> tuple[Path, bool]:
    """The table in some form, and whether the form is sound; ``hats`` says what was done."""
    kind = rng.choice(("text", "text", "text", "text", "parquet", "json"))
    if kind == "parquet" and "" not in table.header:
        file = folder / "t.parquet"
        columns = {name: [row[i] or None for row in table.cells] for i, name in enumerate(table.header)}
        pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)).write_parquet(file)
        table.hats.append("parquet")
        return file, True
    if kind == "json" and "" not in table.header:
        file = folder / "t.json"
        file.write_text(json.dumps([dict(zip(table.header, row, strict=True)) for row in table.cells]))
        table.hats.append("json")
        return file, True
    return _write_text(rng, table, folder)


def _write_text(rng: random.Random, table: Drawn, folder: Path) -> tuple[Path, bool]:
    separator = rng.choice((",", ",", ";", "\t", "|"))
    quoted = rng.random() < 0.3

    def line(cells: list[str]) -> str:
        marked = quoted or any(mark in cell for cell in cells for mark in f'{separator}"#')
        return separator.join('"' + cell.replace('"', '""') + '"' if marked else cell for cell in cells)

    lines = [line(table.header), *map(line, table.cells)]
    table.hats.append(f"text by {separator!r}")
    sound = not _damage(rng, lines, separator, table)
    end = rng.choice(("\n", "\r\n"))
    encoding = rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le"))
    file = folder / ("t.tsv" if separator == "\t" and rng.random() < 0.5 else "t.csv")
    content = (end.join(lines) + rng.choice(("", end, end * 3))).encode(encoding)
    if rng.random() < 0.05:
        content, sound = bytes(rng.randrange(256) if rng.random() < 0.1 else byte for byte in content), False
        table.hats.append("noise")
    table.hats.append(encoding)
    file.write_bytes(content)
    return file, sound


def _damage(rng: random.Random, lines: list[str], separator: str, table: Drawn) -> bool:
    """Change the lines; whether the table can no longer be trusted to say what is known of it."""
    kind = rng.choice(DAMAGES)
    table.hats.append(kind)
    at = rng.randrange(1, len(lines))
    if kind == "sep":
        lines.insert(0, f"sep={separator}")
    elif kind == "comment":
        lines.insert(0, f"# made by hand{separator} in May")
    elif kind == "comment inside" and len(table.header) > 1:
        lines.insert(at, "# a remark")
    elif kind == "blank row":
        lines.insert(at, separator * (len(table.header) - 1))
    elif kind == "header twice":
        lines.insert(at, lines[0])
    elif kind == "row twice":
        lines.append(lines[at])
        table.cells.append(table.cells[at - 1])
    elif kind == "headless":
        del lines[0]
    elif kind == "ragged":
        lines[at] += f"{separator}1"
    elif kind == "quote":
        head, mark, tail = lines[at].rpartition(separator)
        lines[at] = f'{head}{mark}"{tail}'
    elif kind == "column twice":
        lines[:] = [f"{text}{separator}{text.partition(separator)[0]}" for text in lines]
    elif kind == "contradiction":
        return _contradict(rng, lines, separator, table)
    return kind in ("headless", "ragged", "quote", "column twice")


def _contradict(rng: random.Random, lines: list[str], separator: str, table: Drawn) -> bool:
    """A second row of one image that says something else."""
    attribute = next(i for i, name in enumerate(table.header) if name.startswith("Hat"))
    row = list(rng.choice(table.cells))
    row[attribute] = {"": "1"}.get(row[attribute], "")
    lines.append(separator.join(f'"{cell}"' for cell in row) if '"' not in "".join(row) else lines[-1])
    return True


# ------------------------------------------------------------------ what must hold


def check(table: Drawn, labels: Labels, *, sound: bool) -> None:
    """Rows, columns and, of a sound table, every value."""
    reading = labels.reading
    assert reading is not None
    rows = reading.rows
    assert rows["of_images"] + rows["repeated"] + rows["without_image"] == rows["given"]
    assert rows["without_image"] == labels.unmatched_rows.count
    assert reading.images["with_row"] + labels.images_without_row.count == len(table.ids)
    assert json.loads(json.dumps(reading.as_dict())) == reading.as_dict()
    if not sound:
        return
    assert rows["given"] == len(table.cells)
    columns = {reading.image_column, *labels.ignored_columns} | ({"split"} if labels.split is not None else set())
    known = {target_name(name) for name in columns} | set(labels.targets)
    assert known == {target_name(name) or f"column_{i}" for i, name in enumerate(table.header, start=1)}
    assert set(labels.targets) >= set(table.truth), "an attribute is not read"
    for target, values in table.truth.items():
        expected = [values.get(image, NAN) for image in table.ids]
        np.testing.assert_array_equal(labels.column(target), expected, err_msg=target)


def answered(table: Drawn, file: Path) -> Labels | CfalignError:
    """The labels, or the refusal."""
    with nothing_runs():
        try:
            return read_labels(file, ids=table.ids, positive=table.positive, uncertain=table.uncertain)  # type: ignore[arg-type]
        except CfalignError as error:
            return error


@pytest.mark.slow
def test_every_table_is_read_rightly_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    read = 0
    for seed in range(TABLES):
        rng = random.Random(seed)
        table = drawn(rng)
        file, sound = write(rng, table, tmp_path)
        try:
            answer = answered(table, file)
            if isinstance(answer, Labels):
                read += 1
                check(table, answer, sound=sound)
            else:
                assert "\n" not in str(answer)
                assert len(str(answer)) < 1_500
                assert not sound or _may_be_refused(table, str(answer)), answer
        except Exception as error:
            raise AssertionError(f"seed {seed}, {', '.join(table.hats)}: {error!r}") from error
    assert read > TABLES // 2, "too few tables are read for the test to say something"
    assert not (tmp_path / "ran").exists()


def _may_be_refused(table: Drawn, sentence: str) -> bool:
    """A sound table is refused only where its values do not say which column names the images."""
    unsure = table.named_by_stems or "previous" in table.header
    few = table.named_by_stems and len(table.cells) < 4  # names such as 0 and 1 look like an attribute
    return unsure and ("--id-column" in sentence or (few and "None of the" in sentence))


@pytest.mark.slow
def test_the_command_line_says_one_sentence(tmp_path: Path) -> None:
    for seed in range(0, TABLES, TABLES // ON_THE_COMMAND_LINE):
        rng = random.Random(seed)
        table = drawn(rng)
        folder = tmp_path / str(seed)
        (folder / "images").mkdir(parents=True)
        for image in table.ids:
            (folder / "images" / image).parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), "teal").save(folder / "images" / image)
        file, _ = write(rng, table, folder)
        words = ["audit", "--images", "images", "--classifier", "embedded", "--autoencoder", "embedded"]
        with nothing_runs():
            ended = worlds.cfalign(*words, "--labels", file.name, "--split", "none", folder=folder)
        where = f"seed {seed}, {', '.join(table.hats)}: {ended.err}"
        assert ended.code == 2, where
        assert ended.out == "", where
        assert "Traceback" not in ended.err, where
        assert ended.err.splitlines()[-1].startswith("cfalign: "), where
        assert not (folder / "ran").exists(), where
