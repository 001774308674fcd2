"""Text tables (CSV, TSV and the like) as rows of text: encoding, separator, comments, and what is no row.

They are read by the csv module rather than by polars, which fills a short row with nulls in silence; a row that lost a
cell would become an image with other labels.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import polars as pl

from cfalign._errors import BadInput

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SEPARATOR_LINE = re.compile(r'\ufeff?"?sep=(.)"?\s*', re.IGNORECASE)
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT = 200  # lines that decide on the separator
_CHUNK = 10_000


@dataclass
class TextTable:
    """Cells as they are written, and the lines that are no rows."""

    header: tuple[str, ...]
    form: str
    """Separator and encoding, for messages."""
    columns: list[pl.Series] = field(default_factory=list)
    blank_rows: int = 0
    """Lines of separators without a single value."""
    comments: int = 0
    """Lines that begin with #."""
    repeated_headers: int = 0
    """Lines that are the header once more, as in tables that were put one below the other."""
    commented: tuple[str, ...] | None = None
    """The cells of the comment above the header, where it has as many."""


def read_text_table(path: Path, *, tabs: bool) -> TextTable:
    """The table in a text file; ``tabs``: its extension promises them.

    Raises BadInput for a file without a header, for rows of different lengths and for a quotation mark that swallows
    rows; UnicodeDecodeError, OSError and csv.Error as they come.
    """
    encoding = _encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        start = _Start.read(file)
        separator = start.separator or _separator(start.lines, tabs=tabs)
        reader = csv.reader(chain(start.lines, file), delimiter=separator, strict=True)
        header = next(reader, [])
        if not any(cell.strip() for cell in header):
            raise BadInput(f"The labels table {path} must begin with a header line, got an empty one.")
        form = f"text separated by {_SEPARATORS.get(separator, repr(separator))}, {encoding.removesuffix('-sig')}"
        found = TextTable(tuple(name.strip() for name in header), form, comments=len(start.comments))
        found.commented = _like_header(start.comments, separator, width=len(header))
        rows = _even_rows(reader, found, separator=separator, path=path, skipped=start.skipped)
        chunks: list[list[pl.Series]] = []
        while chunk := list(islice(rows, _CHUNK)):
            chunks.append([pl.Series(values=list(cells), dtype=pl.String) for cells in zip(*chunk, strict=True)])
    found.columns = [pl.concat(parts) for parts in zip(*chunks, strict=True)]
    return found


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(256)
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    if len(start) > 1 and b"\0" in start:  # UTF-16 without a mark: every other byte of plain text is 0
        return "utf-16-le" if start[1] == 0 else "utf-16-be"
    return "utf-8-sig"


@dataclass(frozen=True)
class _Start:
    """The first lines of a file: what stands above the header, and some lines from the header on."""

    lines: list[str]
    comments: list[str]
    separator: str | None
    skipped: int

    @classmethod
    def read(cls, file: TextIO) -> _Start:
        comments: list[str] = []
        separator: str | None = None
        skipped = 0
        for line in file:
            named = _SEPARATOR_LINE.fullmatch(line) if separator is None else None
            if line.startswith("#"):
                comments.append(line)
            elif named is not None:
                separator = named.group(1)
            elif line.strip() or any(mark in line for mark in ",;"):
                return cls([line, *islice(file, _LOOKED_AT)], comments, separator, skipped)
            skipped += 1
        return cls([], comments, separator, skipped)


def _separator(lines: Sequence[str], *, tabs: bool) -> str:
    """The separator that cuts the first lines into rows of one length."""
    first = lines[0] if lines else ""
    if tabs and "\t" in first:
        return "\t"

    def evidence(separator: str) -> tuple[bool, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=separator) if any(cell.strip() for cell in row)]
        return widths[0] > 1 and set(widths[:-1] or widths) == {widths[0]}, first.count(separator)

    present = [separator for separator in _SEPARATORS if separator in first]
    return max(present, key=evidence, default=",")


def _like_header(comments: Sequence[str], separator: str, *, width: int) -> tuple[str, ...] | None:
    if not comments:
        return None
    cells = next(csv.reader([comments[-1].lstrip("#").strip()], delimiter=separator), [])
    return tuple(cell.strip() for cell in cells) if len(cells) == width else None


def _even_rows(
    reader: Iterator[list[str]], found: TextTable, *, separator: str, path: Path, skipped: int
) -> Iterator[Sequence[str]]:
    """The rows below the header; counts in ``found`` what is no row."""
    width, first = len(found.header), found.header[0]
    before = getattr(reader, "line_num", 0)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            line = skipped + getattr(reader, "line_num", 0)
            raise BadInput(f"The labels table {path} cannot be read: {error} (line {line}).") from error
        if row is None:
            return
        line = getattr(reader, "line_num", 0)
        several, before = line > before + 1, line
        if not any(cell.strip() for cell in row):
            found.blank_rows += len(row) > 1
        elif row[0].strip() == first and tuple(cell.strip() for cell in row) == found.header:
            found.repeated_headers += 1
        elif len(row) != width and row[0].startswith("#"):
            found.comments += 1
        elif len(row) != width:
            raise BadInput(
                f"The labels table {path} must have {width} columns in every line, got {len(row)} in line "
                f"{line + skipped}."
            )
        else:
            if several and _swallows_rows(row, separator):
                raise BadInput(
                    f"The labels table {path} has a quotation mark that swallows rows, in the cell that ends in line "
                    f"{line + skipped}; close it, or double it."
                )
            yield row


def _swallows_rows(row: Sequence[str], separator: str) -> bool:
    """Whether the lines of a cell look like rows of the table."""
    for cell in row:
        below = cell.splitlines()[1:]
        if below and all(line.count(separator) == len(row) - 1 for line in below):
            return True
    return False
