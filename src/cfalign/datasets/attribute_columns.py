"""Which columns of a table are attributes, and what their cells say: present (1), absent (0) or missing (NaN)."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cfalign._errors import BadInput, nearest
from cfalign.datasets.label_tables import Table, target_name

Uncertain = Literal["ignore", "positive", "negative"]
Positive = Mapping[str, str | Sequence[str]]
SPLIT_NAMES = ("split", "partition")
# Never attributes, even where a small table holds only the persons 0 and 1.
IDENTITY_NAMES = (
    "identity",
    "person_id",
    "subject",
    "subject_id",
    "patient",
    "patient_id",
    "index",
)
_ROW_NAMES = ("image", "image_id", "filename", "file_name", "file", "path", "image_path", "img_path", "filepath", "id")
_WORDS = (  # (present, absent); single letters count only where both stand in the column
    (("true",), ("false",)),
    (("yes",), ("no",)),
    (("y",), ("n",)),
    (("t",), ("f",)),
    (("positive",), ("negative",)),
    (("pos",), ("neg",)),
    (("present",), ("absent",)),
    (("ja",), ("nein", "nej", "nee")),
    (("j",), ("n",)),
    (("oui",), ("non",)),
    (("si", "sí", "sì"), ("no",)),
    (("sim",), ("não", "nao")),
    (("tak",), ("nie",)),
    (("wahr",), ("falsch",)),
    (("vrai",), ("faux",)),
    (("verdadero",), ("falso",)),
)
_UNCERTAIN_WORDS = ("uncertain", "unsure", "unclear", "equivocal", "indeterminate")
_UNKNOWN_WORDS = ("unknown", "?")
_MOST_TOKENS = 16  # room for "1", "1.0", "1.00", …
_EXAMPLES = 3
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*)([.,]\d*)?(e[-+]?\d+)?", re.IGNORECASE | re.ASCII)
_LONGEST = 40  # characters of a cell in a sentence
_NAN = float("nan")


@dataclass
class Attributes:
    """The columns of a table, by position."""

    values: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    """Of attributes: 1, 0 or NaN, [row]."""
    reasons: dict[int, str] = field(default_factory=dict)
    """Why each other column is not an attribute."""
    offers: dict[int, str] = field(default_factory=dict)
    """Of columns with two values that are not read: what would read them."""
    uncertain: dict[int, int] = field(default_factory=dict)
    """Cells that say "uncertain"."""
    unknown: dict[int, int] = field(default_factory=dict)
    """Cells that say "unknown" in words, and are missing."""
    doubtful: set[int] = field(default_factory=set)
    """Columns of 0/1 whose name says that they are something else."""
    chosen: dict[int, str] = field(default_factory=dict)
    """Of columns whose present value was named: how they are read."""
    signed: tuple[int, ...] = ()
    """Attributes in which −1 stands beside blanks and never beside 0, and was read as absent."""


def read_attributes(
    table: Table, *, names: Sequence[str], positive: Positive | None, uncertain: Uncertain | None, title: str
) -> Attributes:
    """Sort the columns of a table into attributes and others.

    ``positive``: by column, the value or values that mean present; every other value of it means absent.
    ``uncertain``: what −1 beside 0 means, and words such as "uncertain"; None: missing, as "ignore", which also takes
    −1 beside blanks for uncertain. ``title`` is what messages call the table. Raises BadInput for a column or value in
    ``positive`` that is not there, and for another ``uncertain``.
    """
    if uncertain is not None and uncertain not in get_args(Uncertain):
        raise BadInput(f"uncertain: expected ignore, positive or negative, got {uncertain!r}.")
    wanted = _wanted(table, names, positive or {}, title)
    found = Attributes()
    readings: dict[int, _Reading] = {}
    for i, column in enumerate(table.columns):
        lower = column.str.to_lowercase()
        tokens: list[str] = lower.drop_nulls().unique(maintain_order=True).to_list()
        if i in wanted:
            readings[i] = _named(tokens, wanted[i], column=table.header[i], title=title)
            found.chosen[i] = _shown_choice(table.header[i], column, readings[i])
        elif table.certain and names[i] not in SPLIT_NAMES and (reading := _read(tokens)) is not None:
            readings[i] = reading
        elif not table.header[i]:
            found.reasons[i] = "it has no name"
        elif names[i] in SPLIT_NAMES + _ROW_NAMES:
            found.reasons[i] = "its name marks a split" if names[i] in SPLIT_NAMES else "its name marks images or rows"
        elif names[i] in IDENTITY_NAMES:
            found.reasons[i] = "its name marks a person"
            found.doubtful |= {i} if _read(tokens) is not None else set()
        elif (reading := _read(tokens)) is not None:
            readings[i] = reading
        else:
            found.reasons[i] = _other_values(column)
            if offer := _offer(table.header[i], column):
                found.offers[i] = offer
    _settle(found, table, readings, uncertain)
    return found


@dataclass(frozen=True)
class _Reading:
    """What the cells of a column mean, by their text in lower case."""

    meaning: Mapping[str, float]
    minus: tuple[str, ...] = ()
    """Texts of −1, not in ``meaning``."""
    uncertain: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def has(self, value: float) -> bool:
        """Whether any cell means it."""
        return value in self.meaning.values()


def _read(tokens: Sequence[str]) -> _Reading | None:
    """What 0/1, −1/0/1, and words such as yes and no mean; None for any other column."""
    if not 1 <= len(tokens) <= _MOST_TOKENS:
        return None
    uncertain = tuple(token for token in tokens if token in _UNCERTAIN_WORDS)
    unknown = tuple(token for token in tokens if token in _UNKNOWN_WORDS)
    rest = [token for token in tokens if token not in uncertain + unknown]
    if not rest:
        return None
    numbers = {token: number for token in rest if (number := as_number(token)) is not None}
    if len(numbers) == len(rest) and set(numbers.values()) <= {-1.0, 0.0, 1.0}:
        minus = tuple(token for token, number in numbers.items() if number < 0)
        return _Reading({t: n for t, n in numbers.items() if n >= 0}, minus, uncertain, unknown)
    words = _polarity(rest)
    return None if words is None else _Reading(words, (), uncertain, unknown)


def _polarity(tokens: Sequence[str]) -> dict[str, float] | None:
    composed = {token: unicodedata.normalize("NFC", token) for token in tokens}
    values = set(composed.values())
    for present, absent in _WORDS:
        short = len(present[0]) == 1
        if values <= {*present, *absent} and not (short and len(values) < 2):
            return {token: float(word in present) for token, word in composed.items()}
    return None


def as_number(text: str) -> float | None:
    """A number with a decimal point or comma; None for any other text, and for a code such as 0001."""
    return float(text.replace(",", ".")) if _NUMBER.fullmatch(text) else None


def _settle(found: Attributes, table: Table, readings: Mapping[int, _Reading], uncertain: Uncertain | None) -> None:
    """Decide what −1 means, for the whole table, and read the attributes."""
    value = {"positive": 1.0, "negative": 0.0}.get(uncertain or "ignore", _NAN)
    beside_zero = any(reading.minus and reading.has(0.0) for reading in readings.values())
    signed: list[int] = []
    for i, reading in sorted(readings.items()):
        column = table.columns[i].str.to_lowercase()
        blanks = column.null_count() > 0
        doubtful = beside_zero or (blanks and (uncertain is not None or not reading.has(1.0)))
        minus = value if doubtful else 0.0
        if reading.minus and blanks and not doubtful:
            signed.append(i)
        meaning = dict(reading.meaning)
        meaning |= dict.fromkeys(reading.minus, minus) | dict.fromkeys(reading.uncertain, value)
        meaning |= dict.fromkeys(reading.unknown, _NAN)
        said = reading.uncertain + (reading.minus if doubtful else ())
        if count := _count(column, said):
            found.uncertain[i] = count
        if count := _count(column, reading.unknown):
            found.unknown[i] = count
        parsed = column.replace_strict(list(meaning), list(meaning.values()), default=None, return_dtype=pl.Float64)
        found.values[i] = parsed.to_numpy().astype(np.float64)
    found.signed = tuple(signed)


def _count(column: pl.Series, texts: Sequence[str]) -> int:
    return int(column.is_in(list(texts)).sum()) if texts else 0


def _wanted(table: Table, names: Sequence[str], positive: Positive, title: str) -> dict[int, tuple[str, ...]]:
    """The values that mean present, by position of their column."""
    wanted: dict[int, tuple[str, ...]] = {}
    for name, values in positive.items():
        i = column_named(table, names, name)
        if i is None:
            raise BadInput(
                f"positive: {title} has no column {name!r}; {nearest(name, [text for text in table.header if text])}."
            )
        wanted[i] = wanted.get(i, ()) + ((values,) if isinstance(values, str) else tuple(values))
    return wanted


def column_named(table: Table, names: Sequence[str], name: str) -> int | None:
    """The position of a column by its name as written, or in lower snake case."""
    if name in table.header:
        return table.header.index(name)
    return names.index(target_name(name)) if target_name(name) in names else None


def _named(tokens: Sequence[str], wanted: Sequence[str], *, column: str, title: str) -> _Reading:
    """A column whose present values are named."""
    uncertain = tuple(token for token in tokens if token in _UNCERTAIN_WORDS)
    unknown = tuple(token for token in tokens if token in _UNKNOWN_WORDS)
    present: set[str] = set()
    for text in wanted:
        same = {token for token in tokens if _equal(token, text)}
        if not same:
            raise BadInput(
                f"positive: the column {column!r} of {title} has no value {text!r}; it has "
                f"{', '.join(map(_short, tokens[:_MOST_TOKENS])) or 'no value at all'}."
            )
        present |= same
    rest = [token for token in tokens if token not in uncertain + unknown or token in present]
    meaning = {token: float(token in present) for token in rest}
    return _Reading(
        meaning,
        uncertain=tuple(token for token in uncertain if token not in present),
        unknown=tuple(token for token in unknown if token not in present),
    )


def _equal(token: str, text: str) -> bool:
    text = text.strip().lower()
    number = as_number(token)
    same = unicodedata.normalize("NFC", token) == unicodedata.normalize("NFC", text)
    return same or (number is not None and number == as_number(text))


def _shown_choice(name: str, column: pl.Series, reading: _Reading) -> str:
    counts = _counts(column)
    groups = {
        value: [f"{text!r} ({n})" for text, n in counts.items() if reading.meaning.get(text.lower()) == value]
        for value in (1.0, 0.0)
    }
    others = groups[0.0][:_EXAMPLES] + ["…"] * (len(groups[0.0]) > _EXAMPLES)
    return f"{name!r}: {', '.join(groups[1.0])} is present, {', '.join(others) or 'nothing'} absent"


def _offer(name: str, column: pl.Series) -> str:
    """How a column of two values is read; nothing for any other column."""
    counts = {t: n for t, n in _counts(column).items() if t.lower() not in _UNCERTAIN_WORDS + _UNKNOWN_WORDS}
    if len(counts) != 2 or any(len(text) > _LONGEST or "\n" in text for text in counts):
        return ""
    first, second = counts
    asked = shlex.quote(f"{name}={first}")
    return (
        f"{name!r} has two values, {first!r} ({counts[first]}) and {second!r} ({counts[second]}): --positive {asked}, "
        f"in Python positive={{{name!r}: {first!r}}}, reads {first!r} as present and {second!r} as absent"
    )


def _counts(column: pl.Series) -> dict[str, int]:
    """How often each text stands in a column, in the order in which they come; by its first spelling."""
    shown: dict[str, str] = {}
    counts: dict[str, int] = {}
    for text, count in zip(*_unique_counts(column), strict=True):
        spelling = shown.setdefault(text.lower(), text)
        counts[spelling] = counts.get(spelling, 0) + count
    return counts


def _unique_counts(column: pl.Series) -> tuple[list[str], list[int]]:
    present = column.drop_nulls()
    return present.unique(maintain_order=True).to_list(), present.unique_counts().to_list()


def _other_values(column: pl.Series) -> str:
    values = column.drop_nulls().unique(maintain_order=True).head(_EXAMPLES).to_list()
    return f"holds {', '.join(map(_short, values))}" if values else "holds no value"


def _short(text: str) -> str:
    """A cell in a sentence: one line, not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
