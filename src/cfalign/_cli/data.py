"""``--images``, ``--labels`` and ``--split`` of every command."""

from __future__ import annotations

from pathlib import Path

from cfalign._cli.output import complain
from cfalign._errors import BadInput
from cfalign.datasets import SPEC, ImageSource, Labels, open_dataset, read_labels

IMAGES = SPEC[0].upper() + SPEC[1:] + "."
LABELS = "CSV, TSV or Parquet with an image column and 0/1 attributes; default: those of the data set."


def opened(images: str, *, size: int | None, labels: Path | None = None) -> tuple[ImageSource, Labels | None]:
    """The images, and their labels: from the table, else the data set's own. Tells what found no partner."""
    source, own = open_dataset(images, size=size)
    table = own if labels is None else read_labels(labels, ids=source.ids)
    if table is not None:
        for leftover, what in (
            (table.unmatched_rows, "rows match no image"),
            (table.images_without_row, "images have no row"),
        ):
            if leftover.count:
                complain(f"{leftover.count} {what} in {labels or images}, e.g. {leftover.examples[0]}.")
    return source, table


def in_split(source: ImageSource, table: Labels | None, split: str | None) -> tuple[ImageSource, Labels | None]:
    """The images and labels of one split; all where none is named. BadInput without labels, or an unknown split."""
    if split is None:
        return source, table
    if table is None:
        raise BadInput("--split needs --labels, whose `split` column it reads, or a data set that has splits.")
    mask = table.in_split(split)
    return source.subset(mask), table.subset(mask)
