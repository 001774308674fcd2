"""Which row of a table belongs to which image.

A row and an image match in one of four ways. The stronger ways come first, and an image that has a row takes no other
from a weaker way:

1. the path in the row is the id of the image;
2. one of the two paths is the tail of the other ("x.jpg" and "a/x.jpg", "/old/disk/a/x.jpg" and "a/x.jpg"), the
   longest tail first;
3. and 4. the same without image extensions ("000001" or "000001.png" and "000001.jpg").

"a/x.jpg" and "b/x.jpg" never match: the folders contradict each other, and a wrong label is worse than no label; unless
a link says that both are one folder.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cfalign._errors import BadInput
from cfalign.datasets.file_kinds import ENDINGS

_LINKS_IN_ONE_PATH = 3
_WAYS = ((False, False), (False, True), (True, False), (True, True))  # without extension, by tails
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")


class Likeness(IntEnum):
    """How much a match says: a number may equal the name of an image by chance."""

    NONE = 0
    NUMBER = 1
    STEM = 2
    PATH = 3


@dataclass(frozen=True)
class Matches:
    """Rows and images that belong together."""

    row_of: NDArray[np.int64]
    """The row of every image, [image]; −1 where there is none."""
    repeats: Mapping[int, int]
    """Rows that fit an image as well as the row it has → that row."""


class ImageNames:
    """The names that a table may give to images: their ids, and their paths through links (``LinkedIds``)."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        links: Mapping[str, str] = getattr(ids, "links", {})
        self._paths = [tuple(_linked(_path(image_id), links)) for image_id in ids]
        self._everywhere: dict[tuple[bool, bool], Way] = {}

    @cached_property
    def written(self) -> _Index:
        """By path with its extension."""
        return _Index(self._paths)

    @cached_property
    def stripped(self) -> _Index:
        """By path without its extension."""
        return _Index([tuple(map(without_extension, paths)) for paths in self._paths])

    def ways(self, free: NDArray[np.bool_]) -> Iterator[Way]:
        """The four ways to find the images of a cell, strongest first; among images that are ``free``."""
        for stripped, tails in _WAYS:
            yield Way(self, free, stripped=stripped, tails=tails)

    def like(self, name: str) -> tuple[Likeness, list[int]]:
        """How a cell names images, and which."""
        for kind in _WAYS:
            if kind not in self._everywhere:
                everywhere = np.ones(len(self.ids), dtype=np.bool_)
                self._everywhere[kind] = Way(self, everywhere, stripped=kind[0], tails=kind[1])
            way = self._everywhere[kind]
            if found := way.images(name):
                if _NUMBER.fullmatch(name):
                    return Likeness.NUMBER, found
                return Likeness.STEM if way.stripped else Likeness.PATH, found
        return Likeness.NONE, []


class Way:
    """One way to find the images of a cell."""

    def __init__(self, names: ImageNames, free: NDArray[np.bool_], *, stripped: bool, tails: bool) -> None:
        self.stripped = stripped
        self._ids, self._free, self._tails = names.ids, free, tails
        self._index = names.stripped if stripped else names.written

    def images(self, name: str) -> list[int]:
        """Positions of images; of several with one name in another Unicode form, the one that is written the same."""
        path = without_extension(_path(name)) if self.stripped else _path(name)
        found = self._index.with_tail(path, self._free) if self._tails else self._index.at(path, self._free)
        if len(found) > 1:
            return [i for i in found if self._ids[i] == name] or found
        return found


def match_rows(names: Sequence[str | None], *, images: ImageNames, table: str) -> Matches:
    """Rows and images that belong together; ``table`` is what messages call the table.

    Raises BadInput where a row fits several images equally well.
    """
    row_of = np.full(len(images.ids), -1, dtype=np.int64)
    repeats: dict[int, int] = {}
    rows = {row: name for row, name in enumerate(names) if name is not None}
    free = np.ones(len(images.ids), dtype=np.bool_)
    for way in images.ways(free):
        if not rows:
            break
        free[:] = row_of < 0
        rest: dict[int, str] = {}
        for row, name in rows.items():
            found = way.images(name)
            if len(found) > 1:
                raise _several_images(row, name, images=[images.ids[i] for i in found], table=table)
            if not found:
                rest[row] = name
            elif row_of[found[0]] >= 0:
                repeats[row] = int(row_of[found[0]])
            else:
                row_of[found[0]] = row
        rows = rest
    return Matches(row_of, repeats)


def without_extension(path: str) -> str:
    """A path without the extension of an image; any other path as it is."""
    lower = path.lower()
    if not lower.endswith(ENDINGS):
        return path
    return path[: -max(len(ending) for ending in ENDINGS if lower.endswith(ending))]


class _Index:
    """Images by path, and by every tail of their path."""

    def __init__(self, paths: Sequence[Sequence[str]]) -> None:
        self._whole: dict[str, list[int]] = defaultdict(list)
        self._tails: dict[str, list[int]] = defaultdict(list)
        for image, names in enumerate(paths):
            for path in names:
                _add(self._whole[path], image)
                for tail in _tails(path):
                    _add(self._tails[tail], image)

    def at(self, path: str, free: NDArray[np.bool_]) -> list[int]:
        """Free images with this very path."""
        return [i for i in self._whole.get(path, ()) if free[i]]

    def with_tail(self, path: str, free: NDArray[np.bool_]) -> list[int]:
        """Free images whose path ends with ``path``; else those whose path is the longest tail of it."""
        found = [i for i in self._tails.get(path, ()) if free[i]]
        if found:
            return found
        return next((found for tail in _tails(path) if (found := self.at(tail, free))), [])


def _add(images: list[int], image: int) -> None:
    if not images or images[-1] != image:
        images.append(image)


def _several_images(row: int, name: str | None, *, images: Sequence[str], table: str) -> BadInput:
    return BadInput(
        f"Row {row + 1} of {table} ({name!r}) fits {len(images)} images, for example {images[0]!r} and {images[1]!r}; "
        "write paths relative to the image folder."
    )


def _path(name: str) -> str:
    # File systems and spreadsheets compose accents differently.
    composed = name if name.isascii() else unicodedata.normalize("NFC", name)
    parts = composed.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _linked(path: str, links: Mapping[str, str]) -> list[str]:
    """A path, and the same through links."""
    found = [path]
    for _ in range(_LINKS_IN_ONE_PATH if links else 0):
        for link, folder in links.items():
            known = [f"{link}{name.removeprefix(folder)}" for name in found if name.startswith(f"{folder}/")]
            found += [name for name in known if name not in found]
    return found


def _tails(path: str) -> Iterator[str]:
    """The path without its first part, then without its first two, and so on."""
    while "/" in path:
        path = path.partition("/")[2]
        yield path
