"""How labels were read from a table: for the screen and for records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cfalign.datasets.attribute_columns import Attributes, Uncertain
from cfalign.datasets.grouped_images import GroupedImages
from cfalign.datasets.label_tables import Table
from cfalign.datasets.matching import Likeness

_EXAMPLES = 3
_SHOWN_OFFERS = 6
_LINES = {  # one, several
    "blank": ("blank row", "blank rows"),
    "comments": ("line of comments", "lines of comments"),
    "headers": ("repeated header line", "repeated header lines"),
}
_NAMED_BY = {
    Likeness.PATH: "path or file name",
    Likeness.STEM: "name without extension",
    Likeness.NUMBER: "number",
    Likeness.NONE: "nothing",
}


@dataclass(frozen=True)
class LabelReading:
    """What was decided when labels were read, with counts: rows and columns that were read or left out add up."""

    table: str
    """Name of the file or data set."""
    form: str
    """What it was, such as "text separated by commas, utf-8"."""
    image_column: str
    named_by: str
    """How its cells name the images: path or file name, name without extension, number."""
    rows: Mapping[str, int]
    """``given`` = ``of_images`` + ``repeated`` + ``without_image``; and lines that are no rows, by kind."""
    images: Mapping[str, int]
    """``given``, ``with_row``, ``without_row``."""
    attributes: tuple[str, ...] = field(repr=False)
    left_out: Mapping[str, str] = field(repr=False)
    """Columns that are no attributes, with the reason."""
    uncertain: Mapping[str, int] = field(repr=False)
    """Cells that say "uncertain", by attribute."""
    said: tuple[str, ...] = field(repr=False)
    """Sentences on rows and images: decisions that could be other ones, and what was left out."""
    said_of_attributes: tuple[str, ...] = field(repr=False)
    """The same of columns."""

    @property
    def summary(self) -> str:
        """One sentence for the screen."""
        count = len(self.attributes)
        return (
            f"Labels of {self.table}: the column {self.image_column!r} names the images by {self.named_by}, "
            f"{self.rows['of_images']} of {self.rows['given']} rows fit; "
            f"{count} {'attribute' if count == 1 else 'attributes'}."
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "table": self.table,
            "form": self.form,
            "image_column": self.image_column,
            "named_by": self.named_by,
            "rows": dict(self.rows),
            "images": dict(self.images),
            "attributes": len(self.attributes),
            "left_out": dict(self.left_out),
            "uncertain": dict(self.uncertain),
            "said": [*self.said, *self.said_of_attributes],
        }


def remember(images: Any, reading: LabelReading) -> None:
    """Let images that labels chose keep how these were read, for the record of what is done with them."""
    while isinstance(images, GroupedImages):
        images = images.images
    images.chosen_by = reading


def remembered(images: Any) -> LabelReading | None:
    """What ``remember`` kept."""
    return getattr(images, "chosen_by", None)


def named_by(likeness: Likeness) -> str:
    """As ``LabelReading.named_by``."""
    return _NAMED_BY[likeness]


def of_columns(table: Table, found: Attributes, *, uncertain: Uncertain | None, offered: bool) -> Iterator[str]:
    """What is said of the columns of a table. ``offered``: whether the user can choose how it is read."""
    yield from _of_doubt(table, found, uncertain, offered=offered)
    for text in found.chosen.values():
        yield f"The column {text}."
    if offered:
        yield from _of_offers(found)
    named = {i for i, why in found.reasons.items() if "name" in why.split()} - found.doubtful
    others = [f"{table.header[i]!r} ({why})" for i, why in found.reasons.items() if i not in {*named, *found.offers}]
    others += [f"{name!r} ({why})" for name, why in table.unusable.items()]
    if others:
        which = "1 column is no attribute" if len(others) == 1 else f"{len(others)} columns are no attributes"
        yield f"{which}: {_list(others)}."


def of_lines(table: Table) -> Iterator[str]:
    """What is said of the lines of a table."""
    yield from table.notes
    counts = [f"{n} {_LINES[kind][n > 1]}" for kind, n in table.no_rows.items() if n]
    if counts:
        yield f"Not read as rows: {', '.join(counts)}."


def _of_doubt(table: Table, found: Attributes, uncertain: Uncertain | None, *, offered: bool) -> Iterator[str]:
    if found.uncertain:
        cells, columns = sum(found.uncertain.values()), [table.header[i] for i in found.uncertain]
        read = {"positive": "present", "negative": "absent"}.get(uncertain or "ignore", "missing")
        asked = uncertain is not None or not offered
        hint = "" if asked else "; --uncertain positive or --uncertain negative reads them otherwise"
        yield f"{cells} cells say uncertain (−1 or a word) and are {read}, in {_list(columns)}{hint}."
    if found.signed and offered:
        columns = [table.header[i] for i in found.signed]
        yield (
            f"−1 is read as absent in {_list(columns)}, since no column of the table has −1 beside 0; where it means "
            "uncertain, say --uncertain ignore."
        )
    if found.unknown:
        cells, columns = sum(found.unknown.values()), [table.header[i] for i in found.unknown]
        yield f"{cells} cells say unknown and are missing, in {_list(columns)}."


def _of_offers(found: Attributes) -> Iterator[str]:
    offers = list(found.offers.values())
    for text in offers[:_SHOWN_OFFERS]:
        yield f"Not read as an attribute: {text}."
    if len(offers) > _SHOWN_OFFERS:
        yield f"{len(offers) - _SHOWN_OFFERS} more columns have two values and are not read; --positive names one."


def _list(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_EXAMPLES]) + (f" and {len(texts) - _EXAMPLES} more" if len(texts) > _EXAMPLES else "")
