"""Which row of a table belongs to which image.

A row and an image match in one of four ways. The stronger ways come first, and an image that has a row takes no other
from a weaker way:

1. the path in the row is the id of the image;
2. one of the two paths is the tail of the other ("x.jpg" and "a/x.jpg", "/old/disk/a/x.jpg" and "a/x.jpg"), the
   longest tail first;
3. and 4. the same without image extensions ("000001" or "000001.png" and "000001.jpg").

"a/x.jpg" and "b/x.jpg" never match: the folders contradict each other, and a wrong label is worse than no label.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cfalign._errors import BadInput
from cfalign.datasets.file_kinds import ENDINGS


def match_rows(names: Sequence[str | None], *, ids: Sequence[str], table: str) -> NDArray[np.int64]:
    """The row of every image, [image]; −1 where there is none.

    ``table`` is what messages call the table. Raises BadInput where a row fits several images, or several rows fit one
    image, equally well.
    """
    row_of = np.full(len(ids), -1, dtype=np.int64)
    rows = {row: _path(name) for row, name in enumerate(names) if name is not None}
    images = [_path(image_id) for image_id in ids]
    for stripped in (False, True):
        if stripped:
            rows = {row: _without_extension(path) for row, path in rows.items()}
            images = [_without_extension(path) for path in images]
        for tails in (False, True):
            index = _Index({image: images[image] for image in np.flatnonzero(row_of < 0).tolist()})
            for row, path in rows.items():
                found = index.with_tail(path) if tails else index.whole.get(path, [])
                if len(found) > 1:
                    raise _several_images(row, names[row], images=[ids[i] for i in found], table=table)
                if found and row_of[found[0]] >= 0:
                    pair = (int(row_of[found[0]]), row)
                    raise _several_rows(pair, [names[r] for r in pair], image=ids[found[0]], table=table)
                if found:
                    row_of[found[0]] = row
            matched = set(row_of[row_of >= 0].tolist())
            rows = {row: path for row, path in rows.items() if row not in matched}
    return row_of


class _Index:
    """Images by path, and by every tail of their path."""

    def __init__(self, images: dict[int, str]) -> None:
        self.whole: dict[str, list[int]] = defaultdict(list)
        self._tails: dict[str, list[int]] = defaultdict(list)
        for image, path in images.items():
            self.whole[path].append(image)
            for tail in _tails(path):
                self._tails[tail].append(image)

    def with_tail(self, path: str) -> list[int]:
        """Images whose path ends with ``path``; else images whose path is the longest tail of it."""
        if path in self._tails:
            return self._tails[path]
        return next((self.whole[tail] for tail in _tails(path) if tail in self.whole), [])


def _several_images(row: int, name: str | None, *, images: Sequence[str], table: str) -> BadInput:
    return BadInput(
        f"Row {row + 1} of {table} ({name!r}) fits {len(images)} images, for example {images[0]!r} and {images[1]!r}; "
        "write paths relative to the image folder."
    )


def _several_rows(rows: tuple[int, int], names: Sequence[str | None], *, image: str, table: str) -> BadInput:
    first, second = (f"{row + 1} ({name!r})" for row, name in zip(rows, names, strict=True))
    return BadInput(f"Rows {first} and {second} of {table} belong to one image, {image!r}; keep one of them.")


def _path(name: str) -> str:
    # File systems and spreadsheets compose accents differently.
    parts = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _tails(path: str) -> Iterator[str]:
    """The path without its first part, then without its first two, and so on."""
    while "/" in path:
        path = path.partition("/")[2]
        yield path


def _without_extension(path: str) -> str:
    for extension in ENDINGS:
        if path.lower().endswith(extension):
            return path[: -len(extension)]
    return path
