"""Which column of a table names the images: the one whose values do, whatever its header says.

Every column is held against the images. Paths and file names count more than names without an extension, and these
more than plain numbers, which may equal the names of images by chance. Headers decide only between columns whose values
fit equally well; where they cannot, the user has to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from cfalign._errors import BadInput, nearest
from cfalign.datasets.attribute_columns import IDENTITY_NAMES, column_named
from cfalign.datasets.file_kinds import ENDINGS
from cfalign.datasets.label_tables import Table, target_name
from cfalign.datasets.matching import ImageNames, Likeness

_IMAGE_WORDS = {"image", "images", "img", "file", "filename", "filepath", "fname", "path", "photo", "picture", "bild"}
_KEY_WORDS = {"id", "ids", "name", "names", "key", "number", "no", "nr", "num", "uid", "uuid", "frame", "sample"}
_CLOSE = 0.5  # a column that fits this share of the images of the best one may be the right one
_CLOSE_BY_NUMBERS = 0.25
_MOST = 0.5


@dataclass(frozen=True)
class ImageColumn:
    """The column that names the images, and what was decided."""

    position: int
    likeness: Likeness
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Evidence:
    """How the values of one column fit the images."""

    position: int
    likeness: Likeness
    """Of most of its values that fit an image."""
    rows: Mapping[int, int]
    """Image → the first row that names it."""
    share: float
    """Of the images, or of the rows where these are fewer, that fit."""
    others: frozenset[int]
    """First rows of the values that fit no image, or several."""
    ambiguous: int
    """Values that fit several images."""
    repeated: bool
    """Whether several rows have one value."""


@dataclass(frozen=True)
class _Chooser:
    """The columns of one table, held against the images."""

    table: Table
    names: Sequence[str]
    images: ImageNames
    title: str

    def chosen(self, candidates: Sequence[int]) -> ImageColumn:
        evidence = [self.evidence(i) for i in candidates]
        fitting = [e for e in evidence if e.rows]
        named = [e for e in fitting if e.likeness > Likeness.NUMBER]
        numbers = [e for e in fitting if e.likeness == Likeness.NUMBER and not self._is_no_key(e.position)]
        for group in (
            [e for e in named if e.share > _MOST],
            [e for e in named if self._holds_file_names(e.position)],
            [e for e in numbers if e.share > _MOST and not e.repeated],
            named,
            [e for e in numbers if self._marks_images(e.position)],
            numbers,  # which are refused, with what to do
        ):
            if group:
                return self._best(group, fitting)
        several = next((e for e in evidence if e.ambiguous), None)
        if several is not None:  # matching says which row fits several images
            return ImageColumn(several.position, Likeness.PATH)
        raise self.no_column(candidates)

    def evidence(self, position: int) -> _Evidence:
        """How the values of a column fit the images."""
        column = self.table.columns[position]
        rows: dict[int, int] = {}
        counts = dict.fromkeys(Likeness, 0)
        ambiguous = 0
        first: dict[str, int] = {}
        for row, name in enumerate(column.to_list()):
            if name is not None:
                first.setdefault(name, row)
        for name, row in first.items():
            likeness, found = self.images.like(name)
            if len(found) == 1 and found[0] not in rows:
                rows[found[0]] = row
                counts[likeness] += 1
            ambiguous += len(found) > 1
        total, cells = len(rows), len(column) - column.null_count()
        return _Evidence(
            position,
            _of_most(counts, total),
            rows,
            share=total / min(self.table.rows, len(self.images.ids)),
            others=frozenset(first.values()).difference(rows.values()),
            ambiguous=ambiguous,
            repeated=len(first) < cells,
        )

    def _best(self, group: Sequence[_Evidence], fitting: Sequence[_Evidence]) -> ImageColumn:
        best = max(group, key=lambda e: (e.likeness, len(e.rows)))
        rivals = [e for e in fitting if _is_rival(e, best)]
        if rivals:
            best = self._by_header([best, *rivals])
        if best.likeness == Likeness.NUMBER:
            self._refuse_chance(best)
        others = [e for e in fitting if e is not best and e.share > _MOST and _disagree(e, best)]
        return ImageColumn(best.position, best.likeness, tuple(self._rejected(other, best) for other in others))

    def _by_header(self, rivals: Sequence[_Evidence]) -> _Evidence:
        """The only one of several columns whose header speaks of images."""
        possible = [e for e in rivals if not self._is_no_key(e.position)] or rivals
        marked = [e for e in possible if self._words(e.position) & _IMAGE_WORDS]
        keys = [e for e in possible if e not in marked and self._words(e.position) & _KEY_WORDS]
        if len(possible) == 1:
            return possible[0]
        if len(marked) == 1 and not keys:
            return marked[0]
        shown = " and ".join(repr(self._shown(e.position)) for e in possible[:3])
        example = self._shown(possible[0].position)
        raise BadInput(
            f"The columns {shown} of {self.title} could both name the images, and they disagree; say which one does "
            f"with --id-column {example!r}, in Python id_column={example!r}."
        )

    def _rejected(self, other: _Evidence, best: _Evidence) -> str:
        name, chosen = self._shown(other.position), self._shown(best.position)
        why = "its values say more" if best.likeness > other.likeness else "its name speaks of images"
        if len(best.rows) > len(other.rows) and best.likeness == other.likeness:
            why = "its values fit more images"
        return (
            f"The column {chosen!r} names the images, as {why}; the column {name!r} fits images too, but other ones: "
            f"--id-column {name!r} takes it instead."
        )

    def _refuse_chance(self, best: _Evidence) -> None:
        """Numbers say nothing beside a column of file names that fits no image, nor without a header that says so."""
        name = self._shown(best.position)
        files = next((i for i in range(len(self.names)) if self._holds_file_names(i)), None)
        if files is not None and files != best.position:
            raise BadInput(
                f"None of the file names in the column {self._shown(files)!r} of {self.title} belongs to one of the "
                f"images (for example {self._example(files)!r}; an image is {self.images.ids[0]!r}); where the numbers "
                f"in {name!r} name them, say --id-column {name!r}, in Python id_column={name!r}."
            )
        if not self._marks_images(best.position):
            raise BadInput(
                f"No column of {self.title} surely names the images, whose names are such as {self.images.ids[0]!r}; "
                f"where the numbers in {name!r} do, say --id-column {name!r}, in Python id_column={name!r}."
            )

    def no_column(self, candidates: Sequence[int]) -> BadInput:
        """Why no column names the images: none that could, or other images."""
        likely = [i for i in candidates if self._holds_file_names(i)]
        likely += [i for i in candidates if self._marks_images(i)]
        likely += [i for i in candidates if _is_text(self.table.columns[i])]
        if not likely:
            return BadInput(
                f"The labels table {self.title} must have an image column, with names such as "
                f"{self.images.ids[0]!r}; got the columns {', '.join(self.table.header)} (--id-column says which it is "
                "where the values do not)."
            )
        return BadInput(
            f"None of the {self.table.rows} rows of {self.title} belongs to one of the {len(self.images.ids)} images: "
            f"the column {self._shown(likely[0])!r} has for example {self._example(likely[0])!r}, the images for "
            f"example {self.images.ids[0]!r}."
        )

    def _words(self, position: int) -> set[str]:
        return set(self.names[position].split("_"))

    def _marks_images(self, position: int) -> bool:
        return bool(self._words(position) & (_IMAGE_WORDS | _KEY_WORDS))

    def _is_no_key(self, position: int) -> bool:
        """Whether the header says that the column is of rows or persons."""
        header, name = self.table.header[position], self.names[position]
        return not header or name in IDENTITY_NAMES or name.startswith(("unnamed_", "index_level_"))

    def _holds_file_names(self, position: int) -> bool:
        present = self.table.columns[position].drop_nulls().head(1000)
        ends = [text.lower().endswith(ENDINGS) for text in present.to_list()]
        return bool(sum(ends) > _MOST * len(ends))

    def _shown(self, position: int) -> str:
        return self.table.header[position] or self.names[position]

    def _example(self, position: int) -> str:
        return next((name for name in self.table.columns[position].to_list() if name), "nothing")


def find_image_column(
    table: Table,
    *,
    names: Sequence[str],
    attributes: Sequence[int],
    images: ImageNames,
    title: str,
    id_column: str | None,
) -> ImageColumn:
    """The column that names the images: ``id_column``, or the one whose values fit them best.

    ``attributes``: columns of 0/1, which name images only where their header says so. Raises BadInput where no column
    fits, where several fit equally well, and for an ``id_column`` that is not there or fits no image.
    """
    chooser = _Chooser(table, names, images, title)
    if id_column is not None:
        position = column_named(table, names, id_column)
        if position is None:
            known = [text or name for text, name in zip(table.header, names, strict=True)]
            raise BadInput(f"id_column: {title} has no column {id_column!r}; {nearest(id_column, known)}.")
        evidence = chooser.evidence(position)
        if not evidence.rows and not evidence.ambiguous:
            raise chooser.no_column([position])
        return ImageColumn(position, evidence.likeness)
    marked = [i for i in attributes if set(names[i].split("_")) & (_IMAGE_WORDS | {"id"})]
    return chooser.chosen([i for i in range(len(names)) if i not in attributes or i in marked])


def with_header(table: Table, *, images: ImageNames, title: str) -> Table:
    """The table, whose first line names the columns; else the comment above it does, where it has as many names.

    Raises BadInput for a table whose first line is data, which would be lost as names of columns.
    """
    shown = _data_in_header(table, images)
    if shown is None:
        return table
    if table.commented is not None and all(table.commented):
        return table.below(table.commented)
    raise BadInput(
        f"The first line of {title} must name the columns, such as image,smiling; got {shown!r}, which is data: write "
        "a header above it."
    )


def _data_in_header(table: Table, images: ImageNames) -> str | None:
    """A cell of the header where that is a row, else None."""
    present = [(text, column) for text, column in zip(table.header, table.columns, strict=True) if text]
    files = [text for text, _ in present if text.lower().endswith(ENDINGS)]
    if files:
        return files[0]
    is_row = bool(present) and all(_is_data(text, column, images) for text, column in present)
    return present[0][0] if is_row else None


def _is_data(text: str, column: pl.Series, images: ImageNames) -> bool:
    """Whether a header looks like a cell of its column."""
    values = set(column.drop_nulls().head(1000).to_list())
    number = text.replace(".", "", 1).lstrip("-").isdigit()
    if number and values and all(value.replace(".", "", 1).lstrip("-").isdigit() for value in values):
        return True
    if text in values:
        return True
    return not set(target_name(text).split("_")) & (_IMAGE_WORDS | _KEY_WORDS) and bool(images.like(text)[1])


def _of_most(counts: Mapping[Likeness, int], total: int) -> Likeness:
    """The highest likeness that at least half of the matches reach."""
    reached = 0
    for likeness in sorted(Likeness, reverse=True):
        reached += counts[likeness]
        if total and 2 * reached >= total:
            return likeness
    return Likeness.NONE


def _is_rival(other: _Evidence, best: _Evidence) -> bool:
    """Whether the values alone do not decide between two columns."""
    if other is best or other.likeness != best.likeness or not _disagree(other, best):
        return False
    if best.likeness == Likeness.NUMBER:
        return (best.repeated or not other.repeated) and len(other.rows) >= _CLOSE_BY_NUMBERS * len(best.rows)
    return len(other.rows) >= _CLOSE * len(best.rows)


def _disagree(one: _Evidence, other: _Evidence) -> bool:
    """Whether they give an image different rows; or, by number, a row an image that the other one does not know."""
    if any(other.rows.get(image, row) != row for image, row in one.rows.items()):
        return True
    numbers = one.likeness == other.likeness == Likeness.NUMBER
    return numbers and not (other.others.isdisjoint(one.rows.values()) and one.others.isdisjoint(other.rows.values()))


def _is_text(column: pl.Series) -> bool:
    present = column.drop_nulls()
    return len(present) > 0 and present.cast(pl.Float64, strict=False).null_count() > 0
