"""CSV, TSV, Parquet and columns in memory as columns of text."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from cfalign._errors import BadInput
from cfalign.datasets.text_tables import read_text_table

EXTENSIONS = (".csv", ".tsv", ".parquet", ".pq")
_MISSING = ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none")


@dataclass(frozen=True)
class Table:
    """A table whose cells are stripped text; missing ones (blank, NA, NaN, null, none) are null."""

    header: tuple[str, ...]
    """Column names as written; names may repeat."""
    columns: tuple[pl.Series, ...]
    """One per name, type String, all of one length, at least 1."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Columns that are left out, with the reason."""
    form: str = "columns in memory"
    """What was read, for records."""
    no_rows: Mapping[str, int] = field(default_factory=dict)
    """Lines that are no rows, by what they are: blank, comments, headers."""
    commented: tuple[str, ...] | None = None
    """Names that a comment above the header gives, one per column."""
    notes: tuple[str, ...] = ()
    """Sentences on what else was read."""
    certain: bool = False
    """Whether the first column names the images, and the others are attributes whatever their names, or ``split``."""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.columns[0])

    def below(self, header: Sequence[str]) -> Table:
        """The same table with other names, whose present header is a row."""
        first = (pl.Series(values=[name], dtype=pl.String) for name in self.header)
        columns = tuple(_text(pl.concat([a, b])) for a, b in zip(first, self.columns, strict=True))
        no_rows = {**self.no_rows, "comments": self.no_rows["comments"] - 1}
        return replace(self, header=tuple(header), columns=columns, no_rows=no_rows, commented=None)


def target_name(text: str) -> str:
    """A name in lower snake case.

    >>> cfa.datasets.target_name("5_o_Clock_Shadow"), cfa.datasets.target_name("Wavy Hair")
    ('5_o_clock_shadow', 'wavy_hair')
    """
    return re.sub(r"[\W_]+", "_", text.lower()).strip("_")


def read_table(path: Path) -> Table:
    """The table in a file, read by its extension.

    Raises BadInput for a file that is missing, of another extension, neither UTF-8 nor UTF-16, damaged, without a row
    below its header, or with rows of different lengths.
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
    except UnicodeError as error:
        raise BadInput(f"The labels table {path} must be UTF-8 text; save it as UTF-8.") from error
    except (OSError, csv.Error, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"The labels table {path} cannot be read: {reason}.") from error
    if not table.columns or table.rows == 0:
        raise BadInput(f"The labels table {path} must hold a row below its header, got none.")
    return table


def table_of(columns: Mapping[str, Sequence[str | None]], **more: Any) -> Table:
    """A table from columns of text, all of one length; ``more``: other fields of it."""
    texts = tuple(_text(pl.Series(values=list(cells), dtype=pl.String)) for cells in columns.values())
    return Table(header=tuple(columns), columns=texts, **more)


def _read_text(path: Path, *, tabs: bool) -> Table:
    found = read_text_table(path, tabs=tabs)
    return Table(
        header=found.header,
        columns=tuple(map(_text, found.columns)),
        form=found.form,
        no_rows={"blank": found.blank_rows, "comments": found.comments, "headers": found.repeated_headers},
        commented=found.commented,
    )


def _read_parquet(path: Path) -> Table:
    schema = pl.read_parquet_schema(path)
    usable = [name for name, kind in schema.items() if _as_text(kind)]
    unusable = {name: f"holds {kind}, not plain values" for name, kind in schema.items() if not _as_text(kind)}
    frame = pl.read_parquet(path, columns=usable) if usable else pl.DataFrame()
    columns = tuple(_text(frame[name].cast(pl.String)) for name in usable)
    return Table(header=tuple(name.strip() for name in usable), columns=columns, unusable=unusable, form="Parquet")


def _as_text(kind: pl.DataType) -> bool:
    plain = (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Date, pl.Datetime, pl.Null)
    return kind.is_numeric() or kind in plain or isinstance(kind, plain)


def _text(column: pl.Series) -> pl.Series:
    stripped = column.str.strip_chars()
    return stripped.set(stripped.str.to_lowercase().is_in(_MISSING), None)
