"""Images, labels, splits, reference heads and lists of names, as commands name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from cfalign import autoencoders, classifiers
from cfalign._cli.output import complain
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import ImageSource, Labels, open_dataset, read_labels

Number = TypeVar("Number", int, float)


def opened(
    images: str, *, size: int | None, bit_depth: int | None = None, labels: Path | None = None
) -> tuple[ImageSource, Labels | None]:
    """The images and their labels: those of the table, else the data set's own.

    Tells on stderr which rows match no image, and which images have no row.
    """
    source, own = open_dataset(images, size=size, bit_depth=bit_depth)
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
    """The images and labels of one split; all of them where no split is named.

    Raises BadInput without labels, and for an unknown split.
    """
    if split is None:
        return source, table
    if table is None:
        raise BadInput("--split needs --labels, whose column `split` it reads, or a data set that has splits.")
    mask = table.in_split(split)
    return source.subset(mask), table.subset(mask)


def opened_for(
    autoencoder: Autoencoder,
    images: str,
    *,
    size: int | None,
    bit_depth: int | None,
    labels: Path | None,
    split: str | None,
) -> ImageSource:
    """The images of a split at the side that the autoencoder takes."""
    side = autoencoders.side_of(autoencoder, asked=size)
    return in_split(*opened(images, size=side, bit_depth=bit_depth, labels=labels), split)[0]


def reference_with_judge(spec: str, judge: str | None, *, trust: bool) -> Classifier | Reference:
    """The reference heads, and the judge that is asked for: none at all for the word none."""
    reference = classifiers.load(spec, trust=trust)
    if judge is None:
        return reference
    return Reference(reference, None if judge == "none" else classifiers.load(judge, trust=trust))


def names_in(text: str | None, *, flag: str) -> list[str] | None:
    """Names separated by commas; None where the flag is not given. Raises BadInput for no name at all."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise BadInput(f"{flag}: expected names separated by commas, got {text!r}.")
    return names


def numbers_in(text: str, kind: Callable[[str], Number], *, flag: str) -> list[Number]:
    """Numbers separated by commas; ``kind``: ``int`` or ``float``."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise BadInput(f"{flag}: expected {what} separated by commas, got {text!r}.") from None
