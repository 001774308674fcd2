"""Which column of a data set holds images, by its type or by what its cells begin with, and the image of a cell.

A cell is bytes, an object of ``bytes`` and ``path``, the name of a file, or base64.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cfalign._errors import BadInput
from cfalign.datasets.decoding import Content
from cfalign.datasets.file_kinds import ENDINGS, HEAD, ending, image_kind
from cfalign.datasets.unreadable import Unreadable

_PREFERRED = ("image", "img")
_LOOKED_AT = 16
_NAMED = 8
_ADDRESSES = ("http://", "https://", "s3://", "gs://", "hf://")
_HEAD_OF_TEXT = 4 * (HEAD // 3)  # characters of base64 that hold as many bytes


@dataclass(frozen=True)
class ImageColumn:
    """The column of a data set that is read."""

    name: str
    typed: bool
    """Whether the data set itself says that it holds images."""
    others: tuple[str, ...]
    """Further columns of images."""

    def remarks(self, where: str) -> tuple[str, ...]:
        """That there are further columns, in a sentence."""
        if not self.others:
            return ()
        others = ", ".join(map(repr, self.others))
        return (f"{where} has {1 + len(self.others)} columns of images: {self.name!r} is read, {others} not.",)


def image_column(package: Any, part: Any, where: str) -> ImageColumn:
    """The column of images. Raises BadInput, which names the columns and how to declare one, where none is."""
    if part.features is None:
        raise BadInput(f"The columns of the data set {where} must have known types; save it to a folder first.")
    typed = [column for column, kind in part.features.items() if isinstance(kind, package.Image)]
    if typed:
        return _preferred(typed, typed=True)
    rows = list(islice(iter(part), _LOOKED_AT))
    found = [column for column in part.features if _holds_images([row[column] for row in rows])]
    if found:
        return _preferred(found, typed=False)
    addresses = [c for c in part.features if any(str(row[c]).startswith(_ADDRESSES) for row in rows)]
    hint = (
        f" The column {addresses[0]!r} holds addresses, which are not fetched: download the images."
        if addresses
        else ""
    )
    columns = ", ".join(f"{column} ({_type(kind)})" for column, kind in islice(part.features.items(), _NAMED))
    more = f" and {len(part.features) - _NAMED} more" if len(part.features) > _NAMED else ""
    raise BadInput(
        f"The data set {where} must have a column of images, got {columns}{more}; a column counts as one where most of "
        "its cells are files of images as bytes, base64 or names, or where it is declared: "
        f"data.cast_column(NAME, datasets.Image()), then data.save_to_disk(FOLDER).{hint}"
    )


def image_of(cell: Any, *, folder: Path | None) -> Content:
    """The encoded image of a cell. Names of files are taken relative to ``folder``; without one they are not read.

    Raises Unreadable for a cell that holds none.
    """
    if isinstance(cell, Mapping):
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if cell is None or len(cell) == 0:
        raise Unreadable("the row has no image")
    if isinstance(cell, bytes):
        return cell
    text = str(cell)
    if _kind_in_text(text) is not None:
        return _decoded(text)
    if folder is None:
        raise Unreadable("the row names a file, and the data set has no folder")
    return folder / text


def _preferred(columns: Sequence[str], *, typed: bool) -> ImageColumn:
    name = next((column for column in columns if column in _PREFERRED), columns[0])
    return ImageColumn(name, typed, tuple(column for column in columns if column != name))


def _holds_images(cells: Sequence[Any]) -> bool:
    """Whether most cells that are not empty are images."""
    known = [cell for cell in cells if cell is not None]
    return 2 * sum(map(_is_image, known)) > len(known)


def _is_image(cell: Any) -> bool:
    if isinstance(cell, Mapping):
        content = cell.get("bytes")
        return _is_image(content) if content is not None else _is_image(cell.get("path"))
    if isinstance(cell, bytes):
        return image_kind(cell[:HEAD]) is not None
    if not isinstance(cell, str) or cell.startswith(_ADDRESSES):
        return False
    return ending(cell) in ENDINGS or _kind_in_text(cell) is not None


def _kind_in_text(text: str) -> str | None:
    """What a text holds as base64; None for any other text."""
    start = text.partition(",")[2] if text.startswith("data:image/") else text
    try:
        return image_kind(base64.b64decode(start[:_HEAD_OF_TEXT], validate=True))
    except (binascii.Error, ValueError):
        return None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:image/") else text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unreadable(f"damaged base64 ({str(error).lower()})") from error


def _type(kind: Any) -> str:
    if isinstance(kind, dict):
        return f"{{{', '.join(kind)}}}"
    return str(getattr(kind, "dtype", None) or type(kind).__name__)
