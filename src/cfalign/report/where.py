"""Where in the image effects lie: sentences and pictures of regions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfalign._figures import style
from cfalign._findings import RegionShare
from cfalign._runs.codec import file_name
from cfalign.report.page_images import Pixels, read_small
from cfalign.report.words import Mark

FOLDER = "regions"
MOST = 8
"""Attributes shown of each head."""
LEAST = 0.05
"""Least share that is told of a region."""


@dataclass(frozen=True)
class Split:
    """The counterfactuals of one attribute, split by region."""

    audited: str
    attribute: str
    whole: float
    told: tuple[RegionShare, ...]
    """The regions with a share worth telling, the largest first."""
    picture: str
    """Its path relative to the run."""


def splits(rows: Sequence[RegionShare]) -> list[Split]:
    """Of every audited head its own counterfactuals, then the attributes that move it most."""
    found: list[Split] = []
    for audited in dict.fromkeys(row.audited for row in rows):
        mine: dict[str, list[RegionShare]] = {}
        for row in rows:
            if row.audited == audited and math.isfinite(row.inside):
                mine.setdefault(row.attribute, []).append(row)
        order = sorted(mine, key=lambda name: (name != audited, -abs(mine[name][0].whole)))
        found += [_split(audited, name, mine[name]) for name in order[:MOST]]
    return found


def _split(audited: str, attribute: str, rows: Sequence[RegionShare]) -> Split:
    told = [row for row in rows if max(row.inside, row.lost) >= LEAST]
    told.sort(key=lambda row: -(row.inside + row.lost))
    picture = f"{FOLDER}/{file_name(audited)}/{file_name(attribute)}.png"
    return Split(audited, attribute, rows[0].whole, tuple(told), picture)


def sentence(split: Split, mark: Mark) -> str:
    """What moves the head, and in which regions it lies."""
    what = _what(split, mark)
    if not split.told:
        return f"{what}: no region holds {LEAST:.0%} of it or more"
    parts = [f"{_range(row)} in {row.region}" for row in split.told[:4]]
    more = len(split.told) - 4
    return f"{what}: {', '.join(parts)}" + (f", and less in {more} more" if more > 0 else "")


def _what(split: Split, mark: Mark) -> str:
    if split.attribute == split.audited:
        return f"What {mark(split.audited)} itself looks at"
    moves = f"moves {mark(split.audited)} by {style.signed(split.whole)}"
    if split.attribute.startswith("unnamed "):
        return f"Unnamed feature {split.attribute.removeprefix('unnamed ')} {moves}"
    return f"{mark(split.attribute)} {moves} per unit of its own"


def _range(row: RegionShare) -> str:
    """Both bounds in percent, the lower one first."""
    low, high = sorted((row.inside, row.lost))
    return f"{low:.0%} to {high:.0%}" if round(low * 100) != round(high * 100) else f"{low:.0%}"


def pictures_of(root: Path, found: Sequence[Split]) -> Mapping[str, Pixels]:
    """The pictures that the run holds, by path."""
    read = {split.picture: read_small(root / split.picture) for split in found}
    return {path: pixels for path, pixels in read.items() if pixels is not None}
