"""Images of which some belong together, such as those of one person, and who is on which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from numbers import Integral
from typing import Any

from cfalign._errors import BadInput
from cfalign.datasets.image_source import ImageSource, Keep, Loaded, positions
from cfalign.datasets.inventory import Inventory, inventory_of

Groups = tuple[str | None, ...]


@dataclass(frozen=True)
class GroupedImages:
    """An image source that knows which of its images are of one group; ``grouped`` makes it. All else is delegated."""

    images: ImageSource
    groups: Groups
    """The group of each image; None: the image stands alone."""
    column: str = "group"
    """What the groups are, for records: the column of the labels that they come from."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Unique, stable names."""
        return self.images.ids

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images delivered."""
        return self.images.shape

    @property
    def source(self) -> str:
        """Where the images come from, in a word or two, for records."""
        return self.images.source

    @property
    def inventory(self) -> Inventory | None:
        """What was found where the images come from, where that is known."""
        return inventory_of(self.images)

    @property
    def chosen_by(self) -> Any:
        """How the labels were read that chose the images, as ``label_reading`` remembers it."""
        return getattr(self.images, "chosen_by", None)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"GroupedImages({self.images!r}, {self.known} groups)"

    @property
    def known(self) -> int:
        """How many groups there are, beside the images that stand alone."""
        return len(set(self.groups) - {None})

    @property
    def alone(self) -> int:
        """How many images have no group and stand alone."""
        return self.groups.count(None)

    def load(self, indices: Sequence[int], /) -> Loaded:
        """The images at these positions; see ``ImageSource.load``."""
        return self.images.load(indices)

    def subset(self, keep: Keep, /) -> GroupedImages:
        """The images with these ids or that a mask keeps, with their groups; see ``ImageSource.subset``."""
        chosen = positions(self.ids, keep=keep)
        part = self.images.subset(keep)
        return GroupedImages(part, tuple(self.groups[i] for i in chosen), self.column)

    def fingerprint(self) -> str:
        """That of the images alone; ``group_record`` tells of the groups."""
        return self.images.fingerprint()


def grouped(source: ImageSource, groups: Sequence[str | int | None], *, column: str = "group") -> GroupedImages:
    """Images of which some belong together, so that all uncertainty is over these groups and not over images.

    Args:
        source: the images.
        groups: one per image, a text or a whole number; None or a blank text: the image stands alone.
        column: what the groups are, for records.

    Raises BadInput for another number of groups than of images, for other values, and where all images are of one
    group, since nothing can be said of others then.

    >>> import torch
    >>> images = cfa.datasets.TensorImages(torch.rand(4, 3, 8, 8))
    >>> people = cfa.datasets.grouped(images, ["Ada", "Ada", "Ben", None], column="person")
    >>> people.known, people.alone, people.subset(["000001", "000002"]).groups
    (2, 1, ('Ada', 'Ben'))
    """
    if isinstance(groups, str) or len(groups) != len(source.ids):
        count = "one text" if isinstance(groups, str) else len(groups)
        raise BadInput(f"The groups {column!r} must be one per image: expected {len(source.ids)}, got {count}.")
    named = tuple(_named(group, column) for group in groups)
    if len(set(named)) == 1 and named[0] is not None:
        raise BadInput(
            f"All {len(named)} images are of one group, {column} = {named[0]!r}: expected several, since nothing can "
            "be said of others from one."
        )
    return GroupedImages(source, named, column)


def _named(group: Any, column: str) -> str | None:
    if group is None:
        return None
    if isinstance(group, str):
        return group.strip() or None
    if isinstance(group, Integral) and group is not True and group is not False:
        return str(int(group))
    raise BadInput(f"The groups {column!r} must be texts, whole numbers or None, got {group!r}.")


def groups_of(source: ImageSource) -> Mapping[str, str | None] | None:
    """The group of each image by its id; None for a source without groups."""
    return dict(zip(source.ids, source.groups, strict=True)) if isinstance(source, GroupedImages) else None


def group_record(source: ImageSource | None) -> dict[str, Any]:
    """The part of a record's ``data`` that tells of groups; empty for a source without them."""
    if not isinstance(source, GroupedImages):
        return {}
    told = repr(list(zip(source.ids, source.groups, strict=True)))
    return {
        "groups": {
            "column": source.column,
            "count": source.known,
            "alone": source.alone,
            "hash": sha256(told.encode()).hexdigest()[:16],
        }
    }
