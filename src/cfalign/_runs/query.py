"""Queries: rows of a run's responses by an expression or by SQL, over its columns and some friendlier names.

======================  ==============================================================================
``smiling``             a bare head: its score on the counterfactual, as ``after.smiling``
``before.smiling``      its score before the walk, on x0
``change.smiling``      after − before
``psi.smiling``         relative change (Eq. 3), undefined where the base hardly moved
``base_change``         base_after − base_before, negative for a drop
======================  ==============================================================================

An undefined number (NaN) is null here: no comparison is true for it, and it comes last in every order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from cfalign._errors import BadInput, nearest
from cfalign._runs.columns import Column

_TOKEN = re.compile(
    r"""(?P<text>'(?:[^']|'')*')
    |(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?(?!\w))
    |(?P<name>(?:"(?:[^"]|"")*"|\w+(?::\w+)*)(?:\.(?:"(?:[^"]|"")*"|\w+(?::\w+)*))*)(?P<call>\s*\()?""",
    re.VERBOSE,
)
_DIRECTION = re.compile(r"\s+(asc|desc)\s*$", re.IGNORECASE)
_WORDS = re.compile(
    "and|or|not|between|in|is|null|i?like|true|false|case|when|then|else|end|as|cast|distinct|from"
    "|int|integer|bigint|smallint|float|double|real|varchar|text|boolean",
    re.IGNORECASE,
)
_PIECES = re.compile(r"\b(?:and|or|not|between|when|then|else)\b|[(),]", re.IGNORECASE)
_COMPARISON = re.compile(r"<=|>=|<>|!=|==|[<>=]")
_KINDS = (Column.BEFORE, Column.AFTER, "change", "psi")
"""What may stand before the name of a head."""
ALWAYS = ("image_id", "base", "outcome", "base_before", "base_after", "base_change")


@dataclass(frozen=True)
class Selection:
    """Which rows are wanted, and in which order."""

    base: str | None = None
    """Only rows of this base."""
    downstream: str | None = None
    """Only rows with a counterfactual, ordered by |ψ| of this head: the images behind a cell."""
    where: str | None = None
    """A condition, e.g. ``"base_change < -0.5 and heavy_makeup > 0.5"``."""
    sort: str | None = None
    """A name or expression, followed by ``asc`` or ``desc`` (the default); by default |base_change|."""


def select(responses: pl.LazyFrame, wanted: Selection, *, min_base_change: float) -> pl.DataFrame:
    """The rows that ``wanted`` describes, in its order, with the columns that it names.

    ``responses``: those of a run. ``min_base_change``: ψ is undefined for smaller changes of the base. Raises BadInput
    for an unknown name, with the nearest valid ones, and for an expression that cannot be read.
    """
    names = Names(responses.collect_schema().names(), min_base_change)
    _check_choice(responses, names, wanted)
    head = wanted.downstream
    cell = [] if head is None else [Column.BEFORE.of(head), Column.AFTER.of(head), f"psi.{head}"]
    found = _DIRECTION.search(wanted.sort or "")
    by = _DIRECTION.sub("", wanted.sort or f'abs("{_doubled(cell[2] if cell else "base_change")}")')
    condition, filtered = ("TRUE", []) if wanted.where is None else _rewritten(wanted.where, names, strict=True)
    order, sorted_by = _rewritten(by, names, strict=True)
    shown = dict.fromkeys([*ALWAYS, *cell, *filtered, *sorted_by])
    rows = names.added(_without_nan(responses), shown)
    if wanted.base is not None:
        rows = rows.filter(pl.col("base") == wanted.base)
    if cell:
        rows = rows.filter(pl.col("base_change").is_not_null())
    with _explained(wanted.where or "", names.valid):
        rows = rows.filter(pl.sql_expr(condition))
    with _explained(by, names.valid):
        keys = [pl.sql_expr(order), pl.col("image_id"), pl.col("base")]  # equal ones have an order too
        down = [found is None or found.group(1).lower() == "desc", False, False]
        return rows.sort(keys, descending=down, nulls_last=True).select(*shown).collect()


def sql(text: str, tables: Mapping[str, pl.LazyFrame], *, min_base_change: float) -> pl.DataFrame:
    """The answer to a whole query, in which friendly names are columns of ``responses``, quoted or not.

    ``tables``: by name; one is ``responses``. Raises BadInput for a query that cannot be read.
    """
    columns = {name: table.collect_schema().names() for name, table in tables.items()}
    names = Names(columns["responses"], min_base_change)
    query, used = _rewritten(text, names, strict=False)
    frames = {name: _without_nan(table) for name, table in tables.items()}
    frames["responses"] = names.added(frames["responses"], used)
    with _explained(text, [*names.valid, *(c for some in columns.values() for c in some), *tables]):
        return pl.SQLContext(frames).execute(query, eager=True)


class Names:
    """The names that an expression may use, and what each of them means."""

    def __init__(self, columns: Sequence[str], min_base_change: float) -> None:
        self.columns = tuple(columns)
        self.heads = tuple(Column.AFTER.heads(columns))
        self._min = min_base_change

    @property
    def valid(self) -> list[str]:
        """All names, the friendliest first."""
        derived = [f"{kind}.{head}" for kind in _KINDS for head in self.heads]
        return list(dict.fromkeys([*self.heads, "base_change", *self.columns, *derived]))

    def __contains__(self, name: str) -> bool:
        kind, _, head = name.partition(".")
        derived = name == "base_change" or (kind in ("change", "psi") and head in self.heads)
        return derived or name in self.columns or name in self.heads

    def added(self, frame: pl.LazyFrame, used: Iterable[str]) -> pl.LazyFrame:
        """The frame with a column for every friendly name that is used."""
        return frame.with_columns(self._meaning(name).alias(name) for name in used if name not in self.columns)

    def _meaning(self, name: str) -> pl.Expr:
        change = pl.col("base_after") - pl.col("base_before")
        if name == "base_change":
            return change
        if name in self.heads:
            return pl.col(Column.AFTER.of(name))
        kind, _, head = name.partition(".")
        response = pl.col(Column.AFTER.of(head)) - pl.col(Column.BEFORE.of(head))
        return response if kind == "change" else pl.when(change.abs() >= self._min).then(response / change)


def _check_choice(responses: pl.LazyFrame, names: Names, wanted: Selection) -> None:
    bases = responses.select("base").unique(maintain_order=True).collect()["base"].to_list()
    if wanted.base is not None and wanted.base not in bases:
        raise BadInput(f"The run has no base {wanted.base!r}; {nearest(wanted.base, bases)}.")
    if wanted.downstream is not None and wanted.downstream not in names.heads:
        raise BadInput(f"The run has no head {wanted.downstream!r}; {nearest(wanted.downstream, names.heads)}.")
    for text, what in ((wanted.where, "--where"), (wanted.sort, "--sort")):
        if text is not None and not text.strip():
            raise BadInput(f'{what} is empty; expected e.g. "base_change < -0.5 and smiling > 0.2".')
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", wanted.where or "")
    if any(len(_COMPARISON.findall(piece)) > 1 for piece in _PIECES.split(bare)):
        raise BadInput(f"{wanted.where!r} compares twice in a row; write both: 0.2 < smiling and smiling < 0.8.")


def _without_nan(frame: pl.LazyFrame) -> pl.LazyFrame:
    return frame.with_columns(pl.col(pl.Float64, pl.Float32).fill_nan(None))


def _rewritten(text: str, names: Names, *, strict: bool) -> tuple[str, list[str]]:
    """The text with each known name in quotes, as SQL needs it, and these names.

    ``strict``: raises BadInput for an unknown name; a whole query has names of its own.
    """
    met: list[str] = []

    def quoted(found: re.Match[str]) -> str:
        written = found["name"]
        if written is None or found["call"] or _WORDS.fullmatch(written):
            return found[0]
        name = re.sub(r'"((?:[^"]|"")*)"', lambda part: part[1].replace('""', '"'), written)
        if name in names:
            met.append(name)
            return f'"{_doubled(name)}"'
        if strict or name.startswith(tuple(f"{kind}." for kind in _KINDS)):
            raise BadInput(f"The run has no column or head {name!r}; {nearest(name, names.valid)}.")
        return found[0]

    return _TOKEN.sub(quoted, text), met


def _doubled(name: str) -> str:
    return name.replace('"', '""')


@contextmanager
def _explained(text: str, valid: Sequence[str]) -> Iterator[None]:
    """An error of polars about an expression becomes BadInput, in one sentence."""
    try:
        yield
    except pl.exceptions.ColumnNotFoundError as error:
        name = (re.findall(r'"([^"]+)"', str(error)) or [text])[0]
        raise BadInput(f"The run has no column or head {name!r}; {nearest(name, valid)}.") from error
    except pl.exceptions.PolarsError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        hint = ""
        if unknown := re.search(r"relation '(.+)' was not found", reason):
            reason, hint = f"there is no table {unknown[1]!r}", ": the tables are responses and scores"
        raise BadInput(f"Cannot answer {text!r}: {reason}{hint}.") from error
