"""Attributes of images: values, splits and texts, in the order of the images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cfalign._errors import BadInput, nearest
from cfalign.datasets.image_source import Keep, positions
from cfalign.datasets.label_reading import LabelReading
from cfalign.datasets.label_tables import target_name

Texts = tuple[str | None, ...]
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
    reading: LabelReading | None = None
    """How they were read, with what the user should know; None where no table was read."""

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

    def texts(self, column: str) -> Texts:
        """The cells of any column as text, None where blank: of an attribute (0 or 1), the split or another one.

        Raises BadInput for an unknown column and names the nearest ones.
        """
        name = target_name(column)
        if name in self.extra:
            return self.extra[name]
        if name in self.targets:
            return tuple(None if np.isnan(value) else f"{value:g}" for value in self.column(name).tolist())
        if name in ("split", "partition") and self.split is not None:
            return self.split
        known = [*self.extra, *self.targets, *(["split"] if self.split is not None else [])]
        raise BadInput(f"The labels have no column {column!r}; {nearest(name, known)}.")

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
