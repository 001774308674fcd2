"""A table of attributes, aligned with images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cfalign._errors import BadInput, nearest
from cfalign.datasets.image_source import Keep, positions
from cfalign.datasets.label_tables import Table, read_table
from cfalign.datasets.matching import match_rows

Texts = tuple[str | None, ...]
_IMAGE_NAMES = (
    "image",
    "image_id",
    "filename",
    "file_name",
    "file",
    "path",
    "image_path",
    "filepath",
    "name",
    "id",
)
_SPLIT_NAMES = ("split", "partition")
# Never attributes, even where a small table holds only the persons 0 and 1.
_IDENTITY_NAMES = (
    "identity",
    "person",
    "person_id",
    "subject",
    "subject_id",
    "patient",
    "patient_id",
    "index",
)
_EXAMPLES = 3


@dataclass(frozen=True)
class Leftover:
    """Rows without an image, or images without a row."""

    count: int
    examples: tuple[str, ...]
    """The first few names."""


@dataclass(frozen=True)
class Labels:
    """Attributes of images, aligned with ``ids``; ``read_labels`` makes them from a table."""

    ids: tuple[str, ...]
    """Of the images, in their order."""
    targets: tuple[str, ...]
    """Names of the attributes in lower snake case, in the table's order."""
    values: NDArray[np.float64]
    """[image, target]: 1 (present), 0 (absent), or NaN where the cell is blank or the image has no row."""
    split: Texts | None
    """The column "split" (or "partition") in lower case, or None without such a column."""
    extra: Mapping[str, Texts]
    """The other columns as text by lower-snake-case name, None where blank or without a row."""
    unmatched_rows: Leftover
    """Rows of the table that belong to no image. ``subset`` does not change it."""
    images_without_row: Leftover
    """Images that no row belongs to. ``subset`` does not change it."""
    ignored_columns: Mapping[str, str]
    """Columns that are not attributes, as written in the table, with the reason; most are in ``extra``."""

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        shown = ", ".join(self.targets[:_EXAMPLES])
        more = f", … {len(self.targets)} targets" if len(self.targets) > _EXAMPLES else ""
        images = "1 image" if len(self.ids) == 1 else f"{len(self.ids)} images"
        return f"Labels({images}: {shown}{more})"

    def require(self, targets: Iterable[str]) -> Labels:
        """The same labels with these targets only, in this order.

        Raises BadInput for an unknown target and names the nearest valid ones.
        """
        wanted = tuple(target_name(target) for target in targets)
        for target in wanted:
            if target not in self.targets:
                raise BadInput(f"The labels have no attribute {target!r}; {nearest(target, self.targets)}.")
        columns = [self.targets.index(target) for target in wanted]
        return replace(self, targets=wanted, values=self.values[:, columns])

    def column(self, target: str) -> NDArray[np.float64]:
        """The values of one target, [image]. Raises BadInput as ``require``."""
        return self.require([target]).values[:, 0]

    def subset(self, keep: Keep) -> Labels:
        """The labels of some images, by id (in this order) or by mask. Raises BadInput as ``ImageSource.subset``."""
        chosen = positions(self.ids, keep=keep)

        def pick(texts: Sequence[str | None]) -> Texts:
            return tuple(texts[i] for i in chosen)

        return replace(
            self,
            ids=tuple(self.ids[i] for i in chosen),
            values=self.values[list(chosen)],
            split=None if self.split is None else pick(self.split),
            extra={name: pick(texts) for name, texts in self.extra.items()},
        )

    def in_split(self, name: str) -> NDArray[np.bool_]:
        """The images of one split, as a mask [image].

        Raises BadInput when the table has no split column, and when no image is in this split.
        """
        if self.split is None:
            raise BadInput(f"The split {name!r} needs a column split in the labels, which have none.")
        mask = np.array([part == name.lower() for part in self.split], dtype=np.bool_)
        if not mask.any():
            parts = sorted({part for part in self.split if part is not None})
            raise BadInput(f"No image is in the split {name!r}; the table has {', '.join(parts) or 'none'}.")
        return mask


def read_labels(path: str | os.PathLike[str], *, ids: Sequence[str]) -> Labels:
    """The labels of images from a CSV (comma, semicolon or tab), TSV or Parquet table with a header.

    The image column is found by its name (image, image_id, filename, file, path, name, id and the like; of several, the
    first that matches any image); without such a name it is the first column of text. The module ``matching`` describes
    how its cells match ``ids``. Attributes are the columns whose values are 0/1, −1/1 or true/false; blank, NA and NaN
    are missing and become NaN. All other columns are kept as text in ``extra``.

    Args:
        path: the table.
        ids: of the images, as ``ImageSource.ids``; the labels come in this order.

    Raises BadInput for a table that is missing or cannot be read, without image column or attribute, with two columns
    of one name in lower snake case, with a row that fits several images or two rows for one image, and when no row
    matches.

    >>> import pathlib, tempfile
    >>> table = pathlib.Path(tempfile.mkdtemp()) / "labels.csv"
    >>> _ = table.write_text("image,Smiling,Age\\na.png,1,31\\nb.png,-1,\\n")
    >>> labels = cfa.datasets.read_labels(table, ids=["a.png", "b.png", "c.png"])
    >>> labels
    Labels(3 images: smiling)
    >>> labels.column("smiling")
    array([ 1.,  0., nan])
    >>> labels.extra["age"]
    ('31', None, None)
    """
    file = Path(path).expanduser()
    return labels_of(read_table(file), ids=ids, file=file)


def labels_of(table: Table, *, ids: Sequence[str], file: Path, bare: bool = False) -> Labels:
    """The labels of images from a table in memory, by the rules of ``read_labels``.

    ``file`` is what messages call the table; ``bare`` allows a table without attributes. Raises BadInput as
    ``read_labels``.
    """
    names = _column_names(table.header, file=file)
    attributes, reasons = _attributes(table, names=names)
    image, row_of = _match(table, names=names, attributes=attributes, ids=ids, file=file)
    attributes.pop(image, None)
    if not attributes and not bare:
        raise BadInput(
            f"The labels table {file} must have an attribute, a column of 0/1, -1/1 or true/false; "
            + (_reasons(table, reasons, image=image) or "it has the image column only")
            + "."
        )
    split = next((i for name in _SPLIT_NAMES for i, other in enumerate(names) if other == name), None)
    others = [i for i in reasons if i not in (image, split)]
    rest = np.setdiff1d(np.arange(table.rows), row_of)
    alone = np.flatnonzero(row_of < 0).tolist()
    return Labels(
        ids=tuple(ids),
        targets=tuple(names[i] for i in attributes),
        values=_aligned(tuple(attributes.values()), row_of=row_of),
        split=None if split is None else _texts(table.columns[split].str.to_lowercase(), row_of=row_of),
        extra={names[i]: _texts(table.columns[i], row_of=row_of) for i in others},
        unmatched_rows=_leftover(len(rest), (table.columns[image][int(row)] or "(blank)" for row in rest[:_EXAMPLES])),
        images_without_row=_leftover(len(alone), (ids[i] for i in alone[:_EXAMPLES])),
        ignored_columns={table.header[i] or names[i]: reasons[i] for i in others} | table.unusable,
    )


def target_name(text: str) -> str:
    """A name in lower snake case.

    >>> cfa.datasets.target_name("5_o_Clock_Shadow"), cfa.datasets.target_name("Wavy Hair")
    ('5_o_clock_shadow', 'wavy_hair')
    """
    return re.sub(r"[\W_]+", "_", text.lower()).strip("_")


def _column_names(header: Sequence[str], *, file: Path) -> tuple[str, ...]:
    names = tuple(target_name(text) or f"column_{i}" for i, text in enumerate(header, start=1))
    first: dict[str, str] = {}
    for text, name in zip(header, names, strict=True):
        if name in first:
            raise BadInput(f"The labels table {file} has two columns for {name!r}: {first[name]!r} and {text!r}.")
        first[name] = text
    return names


def _attributes(table: Table, *, names: Sequence[str]) -> tuple[dict[int, NDArray[np.float64]], dict[int, str]]:
    """Attribute columns as numbers [row], and the reason why each other column is not an attribute; by position."""
    attributes: dict[int, NDArray[np.float64]] = {}
    reasons: dict[int, str] = {}
    for i, column in enumerate(table.columns):
        lower = column.str.to_lowercase()
        tokens = lower.drop_nulls().unique(maintain_order=True)
        numbers = _binary(tokens)
        if not table.header[i] or names[i] in _SPLIT_NAMES + _IDENTITY_NAMES:
            reasons[i] = "its name marks a person or a split" if table.header[i] else "it has no name"
        elif numbers is None:
            reasons[i] = _other_values(column)
        else:
            parsed = lower.replace_strict(list(numbers), list(numbers.values()), default=None, return_dtype=pl.Float64)
            attributes[i] = parsed.to_numpy().astype(np.float64)
    return attributes, reasons


def _binary(tokens: pl.Series) -> dict[str, float] | None:
    """0 or 1 for every token if they are all 0/1, −1/1 or true/false; else None."""
    if not 1 <= len(tokens) <= 16:  # 16: room for "1", "1.0", "1.00", …
        return None
    texts: list[str] = tokens.to_list()
    if set(texts) <= {"true", "false"}:
        return {text: float(text == "true") for text in texts}
    try:
        numbers = {text: float(text) for text in texts}
    except ValueError:
        return None
    if set(numbers.values()) <= {0.0, 1.0}:
        return numbers
    if set(numbers.values()) <= {-1.0, 1.0}:
        return {text: (number + 1) / 2 for text, number in numbers.items()}
    return None


def _other_values(column: pl.Series) -> str:
    values = column.drop_nulls().unique(maintain_order=True).head(_EXAMPLES).to_list()
    return f"holds {', '.join(values)}" if values else "holds no value"


def _reasons(table: Table, reasons: Mapping[int, str], *, image: int) -> str:
    shown = [f"{table.header[i] or i + 1!r} {why}" for i, why in reasons.items() if i != image]
    return "; ".join(shown[:_EXAMPLES])


def _match(
    table: Table, *, names: Sequence[str], attributes: Mapping[int, object], ids: Sequence[str], file: Path
) -> tuple[int, NDArray[np.int64]]:
    """The image column's position, and each image's row [image]."""
    candidates = [names.index(name) for name in _IMAGE_NAMES if name in names]
    if not candidates:
        free = [i for i in range(len(names)) if i not in attributes and names[i] not in _SPLIT_NAMES]
        candidates = [i for i in free if _is_text(table.columns[i])][:1]
    if not candidates:
        raise BadInput(
            f"The labels table {file} must have an image column, one of {', '.join(_IMAGE_NAMES)}; got "
            f"{', '.join(table.header)}."
        )
    for image in candidates:
        row_of = match_rows(table.columns[image].to_list(), ids=ids, table=file.name)
        if (row_of >= 0).any():
            return image, row_of
    example = next((name for name in table.columns[candidates[0]].to_list() if name), "nothing")
    raise BadInput(
        f"None of the {table.rows} rows of {file} belongs to one of the {len(ids)} images: the column "
        f"{table.header[candidates[0]]!r} has for example {example!r}, the images for example {ids[0]!r}."
    )


def _is_text(column: pl.Series) -> bool:
    present = column.drop_nulls()
    return len(present) > 0 and present.cast(pl.Float64, strict=False).null_count() > 0


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
