"""What was given to be read as images: how much of it is read, and what was left out for which reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from cfalign.datasets.file_kinds import Kind
from cfalign.datasets.grey_levels import Levels
from cfalign.datasets.image_source import ImageSource

_NAMED = 5
"""Examples of each kind that are kept."""
_TOLD = 4
"""Kinds that a sentence names."""
_TOLERATED = 0.01
"""The share of lost images above which they are warned of."""


class ImageWarning(UserWarning):
    """Something about the images that makes results wrong or incomplete unless it is meant: a sentence for the user."""


@dataclass(frozen=True)
class LeftOut:
    """Files, members or rows of one kind that are not read."""

    what: str
    """The kind: an ending such as ``.heic``, ``hidden``, or what else it is known by."""
    reason: str
    """In a few words, with what helps."""
    count: int
    lost: bool
    """Whether they are images, or may well be."""
    examples: tuple[str, ...]
    """Some names, without the path of the folder."""

    def words(self) -> str:
        """For a list in a sentence."""
        return f"{self.count} {self.what} ({self.reason})"


@dataclass(frozen=True)
class Inventory:
    """What was found, what is read of it, and what is not: ``given`` = ``images`` + ``labels`` + ``left_out``."""

    given: int
    """Files below a folder, members of shards or rows of a data set."""
    images: int
    """Those that are read as images; one that then cannot be decoded is ``Skipped``."""
    labels: int = 0
    """Members that are read as labels."""
    left_out: tuple[LeftOut, ...] = field(default=(), repr=False)
    """The largest count of lost images first."""
    unit: str = "files"
    remarks: tuple[str, ...] = field(default=(), repr=False)
    """What else is worth a warning, in sentences."""
    bit_depth: int | None = None
    """Bits of grey values as the user says; None: as the files say."""
    levels: Levels | None = field(default=None, repr=False)
    """Grey values of a few images; None where they were not looked at."""

    @property
    def lost(self) -> int:
        """How many images are not read."""
        return sum(kind.count for kind in self.left_out if kind.lost)

    def summary(self) -> str | None:
        """What was left out, in a sentence; None where nothing was."""
        if not self.left_out:
            return None
        count = sum(kind.count for kind in self.left_out)
        return f"Left out {count} of {self.given} {self.unit}: {_listed(self.left_out)}."

    def warnings(self, where: str) -> tuple[str, ...]:
        """What makes results wrong or incomplete unless it is meant, in sentences; ``where`` names the place."""
        found = list(self.remarks)
        if self.lost > _TOLERATED * (self.lost + self.images):
            kinds = _listed([kind for kind in self.left_out if kind.lost])
            found.append(f"{self.lost} of {self.lost + self.images} images in {where} are left out: {kinds}.")
        return (*found, *(() if self.levels is None else self.levels.warnings(where)))

    def as_dict(self, where: str) -> dict[str, Any]:
        """For ``run.json``: the fields, and the ``warnings``, in which ``where`` names the place."""
        return {**asdict(self), "warnings": list(self.warnings(where))}


class Tally:
    """Counts what is left out, kind by kind, while a place is searched."""

    def __init__(self) -> None:
        self._names: dict[Kind, list[str]] = {}
        self._counts: dict[Kind, int] = {}

    def add(self, kind: Kind, name: str) -> None:
        """Count one; ``name`` becomes an example while there are few."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        names = self._names.setdefault(kind, [])
        if len(names) < _NAMED:
            names.append(name)

    def left_out(self) -> tuple[LeftOut, ...]:
        """The kinds, lost images first, the largest count first."""
        order = sorted(self._counts, key=lambda kind: (not kind.lost, -self._counts[kind], kind.what))
        return tuple(
            LeftOut(kind.what, kind.reason, self._counts[kind], kind.lost, tuple(self._names[kind])) for kind in order
        )

    def inventory(self, images: int, *, unit: str, labels: int = 0, remarks: tuple[str, ...] = ()) -> Inventory:
        """All that was counted, beside so many images and labels."""
        given = images + labels + sum(self._counts.values())
        return Inventory(given, images, labels, self.left_out(), unit=unit, remarks=remarks)

    def words(self) -> str:
        """What was left out, for a sentence that says that there is nothing else; empty where nothing was."""
        return _listed(self.left_out())


def inventory_of(source: object) -> Inventory | None:
    """The inventory of an image source; None for one that has none, such as a tensor."""
    found = getattr(source, "inventory", None)
    return found if isinstance(found, Inventory) else None


def inventory_record(source: ImageSource | None) -> dict[str, Any]:
    """The part of a record that tells what was found: ``inventory``; empty for a source that has none."""
    found = inventory_of(source)
    return {} if source is None or found is None else {"inventory": found.as_dict(source.source)}


def _listed(kinds: tuple[LeftOut, ...] | list[LeftOut]) -> str:
    told = ", ".join(kind.words() for kind in kinds[:_TOLD])
    rest = kinds[_TOLD:]
    return told + (f", and {sum(kind.count for kind in rest)} of {len(rest)} more kinds" if rest else "")
