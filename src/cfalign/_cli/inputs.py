"""Images, labels, splits, reference heads and lists of names, as commands name them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from cfalign import autoencoders, classifiers
from cfalign._audit.bank import Bank
from cfalign._cli.output import complain
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import ImageSource, Labels, grouped, open_dataset, read_labels, target_name
from cfalign.datasets.label_reading import remember

Number = TypeVar("Number", int, float)
FEW = 10
"""Groups below which a person is told that there are few."""


@dataclass(frozen=True)
class LabelsAsked:
    """A table of labels as a command names it, and how it is read."""

    file: Path
    positive: Sequence[str] = ()
    """``COLUMN=VALUE``."""
    uncertain: str | None = None
    id_column: str | None = None
    splits_only: bool = False
    """Whether the command reads nothing but the split and groups, and says nothing of attributes."""

    def read(self, ids: Sequence[str]) -> Labels:
        """The labels of these images; tells on stderr what was decided and left out. Raises BadInput."""
        values: dict[str, list[str]] = {}
        for text in self.positive:
            column, equals, value = (part.strip() for part in text.partition("="))
            if not (equals and column and value):
                raise BadInput(f"--positive: expected COLUMN=VALUE, such as sex=M, got {text!r}.")
            values.setdefault(column, []).append(value)
        uncertain = cast(Any, self.uncertain)  # read_labels says which words there are
        labels = read_labels(self.file, ids=ids, positive=values, uncertain=uncertain, id_column=self.id_column)
        if labels.reading is not None:
            complain(labels.reading.summary)
        _tell(labels, str(self.file), splits_only=self.splits_only)
        return labels


def asked(
    file: Path | None,
    *,
    positive: Sequence[str] | None = None,
    uncertain: str | None = None,
    id_column: str | None = None,
    splits_only: bool = False,
) -> LabelsAsked | None:
    """The table that a command names, None where it names none."""
    return None if file is None else LabelsAsked(file, positive or (), uncertain, id_column, splits_only)


def opened(
    images: str, *, size: int | None, bit_depth: int | None = None, labels: LabelsAsked | None = None
) -> tuple[ImageSource, Labels | None]:
    """The images and their labels: those of the table, else the data set's own.

    Tells on stderr which rows match no image, which images have no row, and what else the labels' reader says.
    """
    source, own = open_dataset(images, size=size, bit_depth=bit_depth)
    if labels is not None:
        return source, labels.read(source.ids)
    if own is not None:
        _tell(own, images, splits_only=False)
    return source, own


def _tell(labels: Labels, where: str, *, splits_only: bool) -> None:
    reading = labels.reading
    if reading is not None:
        for sentence in reading.said if splits_only else (*reading.said, *reading.said_of_attributes):
            complain(sentence)
    for leftover, what in (
        (labels.unmatched_rows, "rows match no image"),
        (labels.images_without_row, "images have no row"),
    ):
        if leftover.count:
            complain(f"{leftover.count} {what} in {where}, e.g. {leftover.examples[0]}.")


def in_split(source: ImageSource, table: Labels | None, split: str | None) -> tuple[ImageSource, Labels | None]:
    """The images and labels of one split; all of them where no split is named.

    Raises BadInput without labels, and for an unknown split.
    """
    if split is None:
        return source, table
    if table is None:
        raise BadInput("--split needs --labels, whose column `split` it reads, or a data set that has splits.")
    mask = table.in_split(split)
    part = source.subset(mask)
    if table.reading is not None:
        remember(part, table.reading)
    return part, table.subset(mask)


def opened_for(
    autoencoder: Autoencoder,
    images: str,
    *,
    size: int | None,
    bit_depth: int | None,
    labels: LabelsAsked | None,
    split: str | None,
    group: str | None = None,
) -> tuple[ImageSource, Labels | None]:
    """The images of a split at the side that the autoencoder takes, in the groups of a column where one is named, and
    the labels of all images, of whatever split, where there are any.
    """
    side = autoencoders.side_of(autoencoder, asked=size)
    whole, known = opened(images, size=side, bit_depth=bit_depth, labels=labels)
    source, table = in_split(whole, known, split)
    return (source if group is None else _in_groups(source, table, group)), known


def _in_groups(source: ImageSource, table: Labels | None, column: str) -> ImageSource:
    """The images in the groups that a column of their labels names; tells on stderr how many these are.

    Raises BadInput without labels, for an unknown column, and for one group only.
    """
    if table is None:
        raise BadInput("--group needs --labels, whose column it reads, or a data set that has such a column.")
    found = grouped(source, table.texts(column), column=target_name(column))
    if table.reading is not None:
        remember(found, table.reading)
    alone = {0: "", 1: "; 1 image has none and is a group of its own"}
    rest = alone.get(found.alone, f"; {found.alone} images have none and are a group of their own each")
    complain(f"{len(found)} images are of {found.known} groups ({column}){rest}.")
    if found.known + found.alone < FEW:
        complain(f"Fewer than {FEW} groups tell little of others: intervals are wide and p-values large.")
    return found


def refuse_other_groups(bank: Bank, column: str | None) -> None:
    """Raises BadInput where a command names other groups than those of the bank that it audits."""
    made = bank.groups().get("groups", {}).get("column")
    if column is None or target_name(column) == made:
        return
    has = "no groups" if made is None else f"the groups {made!r}"
    raise BadInput(
        f"--group: the bank was made with {has}, got {column!r}; leave it out, or make a bank with --group {column}."
    )


def reference_with_judge(specs: Sequence[str], judges: Sequence[str] | None, *, trust: bool) -> Classifier | Reference:
    """The reference heads, and the judge that is asked for: none at all for the word none."""
    reference = _joined(specs, trust=trust)
    if not judges:
        return reference
    if "none" in judges and len(judges) > 1:
        raise BadInput(f"--judge: none goes with no other judge, got {', '.join(judges)}.")
    return Reference(reference, None if judges[0] == "none" else _joined(judges, trust=trust))


def _joined(specs: Sequence[str], *, trust: bool) -> Classifier:
    """The heads of all these classifiers as one, or the only one."""
    found = [classifiers.load(spec, trust=trust) for spec in dict.fromkeys(specs)]
    return found[0] if len(found) == 1 else classifiers.JoinedClassifier(found)


def one_or_all(specs: Sequence[str] | None) -> str | list[str] | None:
    """Specs for a record: the only one as it is."""
    return specs[0] if specs and len(specs) == 1 else list(specs) if specs else None


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
