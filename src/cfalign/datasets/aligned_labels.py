"""A table becomes the labels of images: its columns are sorted, its rows are matched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cfalign._errors import BadInput
from cfalign.datasets.attribute_columns import SPLIT_NAMES, Attributes, Positive, Uncertain, read_attributes
from cfalign.datasets.image_columns import ImageColumn, find_image_column, with_header
from cfalign.datasets.label_reading import LabelReading, named_by, of_columns, of_lines
from cfalign.datasets.label_tables import Table, table_of, target_name
from cfalign.datasets.labels import Labels, Leftover, Texts
from cfalign.datasets.matching import ImageNames, Matches, match_rows

_EXAMPLES = 3


@dataclass(frozen=True)
class HowToRead:
    """What the user says of a table; the arguments of ``read_labels``."""

    positive: Positive | None = None
    uncertain: Uncertain | None = None
    id_column: str | None = None


def labels_of(
    table: Table, *, ids: Sequence[str], file: Path, bare: bool = False, how: HowToRead | None = None
) -> Labels:
    """The labels of images from a table in memory, by the rules of ``read_labels``.

    ``file`` is what messages call the table; ``bare`` allows a table without attributes, whose first column holds the
    ids. Raises BadInput as ``read_labels``.
    """
    how, title, images = how or HowToRead(), str(file), ImageNames(ids)
    known = bare or table.certain
    if table.certain and how.id_column is not None:
        raise BadInput(f"id_column: {title} says itself which image is meant; leave it out.")
    table = table if known else with_header(table, images=images, title=title)
    names = _column_names(table.header, file=file)
    found = read_attributes(table, names=names, positive=how.positive, uncertain=how.uncertain, title=title)
    column = find_image_column(
        table,
        names=names,
        attributes=tuple(found.values),
        images=images,
        title=title,
        id_column=names[0] if known else how.id_column,
    )
    _free(found, column, table, title)
    if not found.values and not bare:
        raise BadInput(_no_attribute(table, found, file))
    matches = match_rows(table.columns[column.position].to_list(), images=images, table=file.name)
    split = next((names.index(name) for name in SPLIT_NAMES if name in names), None)
    parts = _Parts(table, names, found, column, split, matches, tuple(ids), file.name)
    parts.refuse_contradictions()
    said = of_columns(table, found, uncertain=how.uncertain, offered=not bare)
    return parts.labels(said_of_attributes=tuple(said), offered=not bare)


def labels_from(columns: dict[str, list[str | None]], *, ids: Sequence[str], where: str) -> Labels | None:
    """Labels from columns in the order of ``ids``; None where all cells are missing. ``where`` is for messages."""
    known = {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}
    if not known:
        return None
    return labels_of(table_of({"image": list(ids), **known}), ids=ids, file=Path(where), bare=True)


@dataclass(frozen=True)
class _Parts:
    """A table whose columns and rows are understood, and the images."""

    table: Table
    names: Sequence[str]
    found: Attributes
    column: ImageColumn
    split: int | None
    matches: Matches
    ids: tuple[str, ...]
    title: str

    def labels(self, *, said_of_attributes: tuple[str, ...], offered: bool) -> Labels:
        """The labels in the order of the images."""
        table, row_of = self.table, self.matches.row_of
        rest, alone = self._rest(), np.flatnonzero(row_of < 0).tolist()
        rows = table.columns[self.column.position]
        left_out = {table.header[i] or self.names[i]: self._reason(i, offered) for i in self._others()}
        left_out |= table.unusable
        return Labels(
            ids=self.ids,
            targets=self._targets(),
            values=_aligned(tuple(self.found.values.values()), row_of=row_of),
            split=None if self.split is None else _texts(table.columns[self.split].str.to_lowercase(), row_of=row_of),
            extra={self.names[i]: _texts(table.columns[i], row_of=row_of) for i in self._others()},
            unmatched_rows=_leftover(len(rest), (rows[row] or "(blank)" for row in rest[:_EXAMPLES])),
            images_without_row=_leftover(len(alone), (self.ids[i] for i in alone[:_EXAMPLES])),
            ignored_columns=left_out,
            reading=self._reading(left_out, said_of_attributes),
        )

    def refuse_contradictions(self) -> None:
        """Raises BadInput where two rows of one image say different things."""
        for i, cells in self._decisive():
            for row, first in self.matches.repeats.items():
                if cells[row] != cells[first]:
                    names = self.table.columns[self.column.position]
                    a, b = (f"{r + 1} ({names[r]!r})" for r in (first, row))
                    image = self.ids[int(np.flatnonzero(self.matches.row_of == first)[0])]
                    raise BadInput(
                        f"Rows {a} and {b} of {self.title} belong to one image, {image!r}, and differ in "
                        f"{self.table.header[i]!r}; keep one of them."
                    )

    def _of_repeats(self) -> Iterator[str]:
        """A sentence on rows that say again what another row says."""
        repeats = self.matches.repeats
        if not repeats:
            return
        other = [
            self.table.header[i] or self.names[i]
            for i in self._others()
            if any(self.table.columns[i][row] != self.table.columns[i][first] for row, first in repeats.items())
        ]
        more = f" (they differ in {', '.join(map(repr, other[:_EXAMPLES]))})" if other else ""
        rows = "1 row says" if len(repeats) == 1 else f"{len(repeats)} rows say"
        yield f"{rows} again what another row of the same image says; the first one counts{more}."

    def _decisive(self) -> Iterator[tuple[int, Sequence[str | None]]]:
        """Attributes and the split, as cells that are equal where they mean the same."""
        if not self.matches.repeats:
            return
        for i, values in self.found.values.items():
            yield i, [None if np.isnan(value) else str(value) for value in values]
        if self.split is not None:
            yield self.split, self.table.columns[self.split].str.to_lowercase().to_list()

    def _others(self) -> list[int]:
        return [i for i in self.found.reasons if i != self.split]

    def _rest(self) -> list[int]:
        """Rows of no image."""
        row_of = self.matches.row_of
        used = [*row_of[row_of >= 0].tolist(), *self.matches.repeats]
        return sorted(set(range(self.table.rows)).difference(used))

    def _targets(self) -> tuple[str, ...]:
        return tuple(self.names[i] for i in self.found.values)

    def _reason(self, position: int, offered: bool) -> str:
        offer = self.found.offers.get(position)
        return offer if offered and offer else self.found.reasons[position]

    def _reading(self, left_out: Mapping[str, str], said_of_attributes: tuple[str, ...]) -> LabelReading:
        fitting, header = int((self.matches.row_of >= 0).sum()), self.table.header
        rows = {"given": self.table.rows, "of_images": fitting, "repeated": len(self.matches.repeats)}
        rows["without_image"] = len(self._rest())
        rows |= {f"not_rows_{kind}": count for kind, count in self.table.no_rows.items()}
        return LabelReading(
            table=self.title,
            form=self.table.form,
            image_column=header[self.column.position] or self.names[self.column.position],
            named_by=named_by(self.column.likeness),
            rows=rows,
            images={"given": len(self.ids), "with_row": fitting, "without_row": len(self.ids) - fitting},
            attributes=self._targets(),
            left_out=left_out,
            uncertain={self.names[i]: count for i, count in self.found.uncertain.items()},
            said=(*self.column.said, *of_lines(self.table), *self._of_repeats()),
            said_of_attributes=said_of_attributes,
        )


def _column_names(header: Sequence[str], *, file: Path) -> tuple[str, ...]:
    names = tuple(target_name(text) or f"column_{i}" for i, text in enumerate(header, start=1))
    first: dict[str, str] = {}
    for text, name in zip(header, names, strict=True):
        if name in first:
            raise BadInput(f"The labels table {file} has two columns for {name!r}: {first[name]!r} and {text!r}.")
        first[name] = text
    return names


def _free(found: Attributes, column: ImageColumn, table: Table, title: str) -> None:
    """The image column is nothing else. Raises BadInput where its values were to be an attribute."""
    if column.position in found.chosen:
        name = table.header[column.position]
        raise BadInput(f"positive: the column {name!r} of {title} names the images and is no attribute.")
    for part in (found.values, found.reasons, found.offers, found.uncertain, found.unknown):
        part.pop(column.position, None)


def _no_attribute(table: Table, found: Attributes, file: Path) -> str:
    shown = [*found.offers.values()]
    shown += [
        f"{table.header[i] or f'column {i + 1}'!r} {why}" for i, why in found.reasons.items() if i not in found.offers
    ]
    return (
        f"The labels table {file} must have an attribute, a column of 0/1, -1/1, true/false or yes/no; "
        f"{'; '.join(shown[:_EXAMPLES]) or 'it has the image column only'}."
    )


def _aligned(columns: Sequence[NDArray[np.float64]], *, row_of: NDArray[np.int64]) -> NDArray[np.float64]:
    if not columns:
        return np.empty((len(row_of), 0))
    values = np.stack(list(columns), axis=1)[row_of]
    values[row_of < 0] = np.nan
    return values


def _texts(column: pl.Series, *, row_of: NDArray[np.int64]) -> Texts:
    cells = column.to_list()
    return tuple(cells[row] if row >= 0 else None for row in row_of.tolist())


def _leftover(count: int, examples: Iterable[str]) -> Leftover:
    return Leftover(count=count, examples=tuple(examples))
