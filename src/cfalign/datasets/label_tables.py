"""CSV, TSV, Parquet and columns in memory as columns of text.

Text tables are read by the csv module rather than by polars, which fills a short row with nulls in silence; a row that
lost a cell would become an image with other labels.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import polars as pl

from cfalign._errors import BadInput

EXTENSIONS = (".csv", ".tsv", ".parquet", ".pq")
_MISSING = ("", "na", "n/a", "nan", "null", "none")
_CHUNK = 10_000


@dataclass(frozen=True)
class Table:
    """A table whose cells are stripped text; missing ones (blank, NA, NaN, null, none) are null."""

    header: tuple[str, ...]
    """Column names as written; names may repeat."""
    columns: tuple[pl.Series, ...]
    """One per name, type String, all of one length, at least 1."""
    unusable: dict[str, str]
    """Columns that are left out, with the reason."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.columns[0])


def read_table(path: Path) -> Table:
    """The table in a file, read by its extension.

    Raises BadInput for a file that is missing, of another extension, not UTF-8, damaged, without a row below its
    header, or with rows of different lengths.
    """
    if not path.exists():
        raise BadInput(f"No such labels table: {path}.")
    if not path.is_file():
        raise BadInput(f"Expected a labels table, got the folder {path}; name the file.")
    kind = path.suffix.lower()
    if kind not in EXTENSIONS:
        raise BadInput(f"A labels table must be one of {', '.join(EXTENSIONS)}, got {path.name}.")
    try:
        table = _read_parquet(path) if kind in (".parquet", ".pq") else _read_text(path, tabs=kind == ".tsv")
    except UnicodeDecodeError as error:
        raise BadInput(f"The labels table {path} must be UTF-8 text; save it as UTF-8.") from error
    except (OSError, csv.Error, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"The labels table {path} cannot be read: {reason}.") from error
    if not table.columns or table.rows == 0:
        raise BadInput(f"The labels table {path} must hold a row below its header, got none.")
    return table


def table_of(columns: Mapping[str, Sequence[str | None]]) -> Table:
    """A table from columns of text, all of one length."""
    texts = tuple(_text(pl.Series(values=list(cells), dtype=pl.String)) for cells in columns.values())
    return Table(header=tuple(columns), columns=texts, unusable={})


def _read_text(path: Path, *, tabs: bool) -> Table:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        separator = "\t" if tabs else max(",;\t", key=first.count)
        reader = csv.reader(file, delimiter=separator)
        header = next(reader, [])
        if not header:
            raise BadInput(f"The labels table {path} must begin with a header line, got an empty one.")
        rows = _even_rows(reader, width=len(header), path=path)
        chunks: list[list[pl.Series]] = []
        while chunk := list(islice(rows, _CHUNK)):
            chunks.append([pl.Series(values=list(cells), dtype=pl.String) for cells in zip(*chunk, strict=True)])
    columns = [_text(pl.concat(parts)) for parts in zip(*chunks, strict=True)]
    return Table(header=tuple(name.strip() for name in header), columns=tuple(columns), unusable={})


def _even_rows(reader: Iterator[list[str]], *, width: int, path: Path) -> Iterator[Sequence[str]]:
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != width:
            line = getattr(reader, "line_num", "?")
            raise BadInput(
                f"The labels table {path} must have {width} columns in every line, got {len(row)} in line {line}."
            )
        yield row


def _read_parquet(path: Path) -> Table:
    schema = pl.read_parquet_schema(path)
    usable = [name for name, kind in schema.items() if _as_text(kind)]
    unusable = {name: f"holds {kind}, not plain values" for name, kind in schema.items() if not _as_text(kind)}
    frame = pl.read_parquet(path, columns=usable) if usable else pl.DataFrame()
    columns = tuple(_text(frame[name].cast(pl.String)) for name in usable)
    return Table(header=tuple(name.strip() for name in usable), columns=columns, unusable=unusable)


def _as_text(kind: pl.DataType) -> bool:
    plain = (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Date, pl.Datetime, pl.Null)
    return kind.is_numeric() or kind in plain or isinstance(kind, plain)


def _text(column: pl.Series) -> pl.Series:
    stripped = column.str.strip_chars()
    return stripped.set(stripped.str.to_lowercase().is_in(_MISSING), None)
