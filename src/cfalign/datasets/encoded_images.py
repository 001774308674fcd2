"""Encoded images in files, archives or memory, decoded on demand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from cfalign._errors import BadInput, warn
from cfalign._results import Skipped
from cfalign.datasets.decoding import Content, Crop, Size, content_digest, decode, quiet, upright_size
from cfalign.datasets.grey_levels import ALL_BITS, Levels
from cfalign.datasets.image_source import Keep, Loaded, checked_indices, described, with_rows
from cfalign.datasets.inspection import levels_of, spread
from cfalign.datasets.inventory import ImageWarning, Inventory
from cfalign.datasets.unreadable import Unreadable

# Decoding releases the GIL; more threads than this only hold more large images in memory at once. Worker processes were
# measured on 2 cores: no faster (64 px PNGs: 2,300 to 2,500 images/s against 2,800 to 3,000), after seconds to start.
_THREADS = max(1, min(4, os.cpu_count() or 1))
_CHUNK = 4096


class Contents(Protocol):
    """Encoded images by row; one that cannot be read raises Unreadable or OSError."""

    def __getitem__(self, row: int, /) -> Content:
        """The encoded image of one row."""
        ...


class EncodedImages:
    """Encoded images (JPEG, PNG, …), decoded on demand to float32 [k, 3, size, size] in [0, 1].

    An image that cannot be read becomes ``Skipped`` when it is loaded.

    Args:
        ids: unique, stable names.
        contents: one encoded image per id: bytes, a path, or a part of a file; read when the image is asked for.
        name: what records call the source.
        where: what messages call its place; by default the name.
        size: side of the square images in pixels; None keeps the pixels as they are, which needs images of one size.
        crop: ``"square"`` takes the centre square; ``"none"`` stretches the whole frame to the square.
        bit_depth: bits that grey values use, 1 to 16, so that 2**bit_depth − 1 is white; by default what each file
            says, and else all of its bits.
        inventory: what was left out when these images were found; by default nothing.

    A few images are looked at: a source that is almost black, that may use fewer bits than its files have, or that
    lacks more than 1 % of the images found is warned of (``ImageWarning``).

    Raises BadInput for a bad ``size``, ``crop`` or ``bit_depth``, and for ``size=None`` with images of different sizes.

    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (9, 9), "white").save(file, "PNG")
    >>> images = cfa.datasets.EncodedImages(["white"], [file.getvalue()], name="memory", size=None)
    >>> images
    EncodedImages('memory', 1 image, 9x9)
    >>> float(images.load([0]).images.min())
    1.0
    """

    def __init__(
        self,
        ids: Sequence[str],
        contents: Contents,
        *,
        name: str,
        where: str | None = None,
        size: int | None,
        crop: Crop = "square",
        bit_depth: int | None = None,
        inventory: Inventory | None = None,
    ) -> None:
        check_form(size, crop, bit_depth)
        self.ids: tuple[str, ...] = tuple(ids)
        self.source = name
        self._contents = contents
        self._rows: Sequence[int] = range(len(self.ids))
        self._crop: Crop = crop
        self._bit_depth = bit_depth
        self.shape: Size = (
            (size, size) if size is not None else common_size(ids, contents, where=where or name, crop=crop)
        )
        found = inventory or Inventory(given=len(self.ids), images=len(self.ids))
        self.inventory: Inventory = replace(found, bit_depth=bit_depth, levels=self._levels())
        for sentence in self.inventory.warnings(where or name):
            warn(sentence, ImageWarning, stacklevel=3)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return described("EncodedImages", self)

    def load(self, indices: Sequence[int], /) -> Loaded:
        """Decode the images at these positions in a few threads, with the memory of the result and a few images."""
        wanted = checked_indices(indices, count=len(self.ids))
        pixels = np.empty((len(wanted), 3, *self.shape), dtype=np.float32)

        def fill(slot: int) -> str | None:
            try:
                pixels[slot] = self._decoded(self._rows[wanted[slot]])
            except Unreadable as error:
                return str(error)
            return None

        with quiet(), ThreadPoolExecutor(_THREADS) as pool:
            reasons = list(pool.map(fill, range(len(wanted))))
        good = [slot for slot, reason in enumerate(reasons) if reason is None]
        return Loaded(
            images=torch.from_numpy(pixels if len(good) == len(wanted) else pixels[good]),
            indices=tuple(wanted[slot] for slot in good),
            skipped=tuple(Skipped(self.ids[i], why) for i, why in zip(wanted, reasons, strict=True) if why is not None),
        )

    def subset(self, keep: Keep, /) -> EncodedImages:
        """The images with these ids (in this order) or that a mask keeps; see ``ImageSource.subset``."""
        return with_rows(self, keep)

    def fingerprint(self) -> str:
        """SHA-256 over shape, crop and bit depth, and over id, number of bytes and bytes of each image.

        Of images above 64 KiB only three pieces of 16 KiB are read: the start, the middle and the end.
        """
        bits = "" if self._bit_depth is None else f" {self._bit_depth} bits"
        digest = hashlib.sha256(f"folder {self.shape} {self._crop}{bits}\n".encode())
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, len(self.ids), _CHUNK):  # or the waiting tasks take more memory than the ids
                rows = self._rows[start : start + _CHUNK]
                ids = self.ids[start : start + _CHUNK]
                for image_id, content in zip(ids, pool.map(self._digest, rows), strict=True):
                    digest.update(f"{len(image_id)} {image_id} {content}\n".encode())
        return digest.hexdigest()

    def _decoded(self, row: int) -> NDArray[np.float32]:
        return decode(self._contents[row], size=self.shape, crop=self._crop, bit_depth=self._bit_depth)

    def _levels(self) -> Levels | None:
        looked_at: list[Content] = []
        for row in spread(len(self.ids)):
            with suppress(Unreadable, OSError):
                looked_at.append(self._contents[row])
        return levels_of(looked_at, size=self.shape, crop=self._crop, bit_depth=self._bit_depth)

    def _digest(self, row: int) -> str:
        try:
            return content_digest(self._contents[row])
        except Unreadable as error:
            return str(error)


def check_form(size: int | None, crop: str, bit_depth: int | None) -> None:
    """Raises BadInput for a size that is not a number of pixels, an unknown crop, or a bit depth outside 1 to 16."""
    if size is not None and (not isinstance(size, int) or size < 1):
        raise BadInput(f"The image size must be a whole number of pixels, at least 1, or None; got {size!r}.")
    if crop not in get_args(Crop):
        raise BadInput(f"crop must be one of {', '.join(get_args(Crop))}, got {crop!r}.")
    if bit_depth is not None and (not isinstance(bit_depth, int) or not 1 <= bit_depth <= ALL_BITS):
        raise BadInput(f"The bit depth must be a whole number from 1 to {ALL_BITS}, or None; got {bit_depth!r}.")


def common_size(ids: Sequence[str], contents: Contents, *, where: str, crop: Crop) -> Size:
    """The size that all readable images share, from their headers.

    Raises BadInput when they differ, or when no image can be read.
    """

    def measure(row: int) -> Size | Unreadable:
        try:
            return upright_size(contents[row], crop=crop)
        except Unreadable as error:
            return error

    first: tuple[str, Size] | None = None
    failure = ""
    with quiet(), ThreadPoolExecutor(_THREADS) as pool:
        for image_id, size in zip(ids, pool.map(measure, range(len(ids))), strict=True):
            if isinstance(size, Unreadable):
                failure = failure or f"{image_id}: {size}"
            elif first is None:
                first = (image_id, size)
            elif size != first[1]:
                one, other = (f"{name} has {w}x{h}" for name, (h, w) in (first, (image_id, size)))
                after = " after the square crop" if crop == "square" else ""
                raise BadInput(
                    f"The images in {where} must have one size{after}, but {one} and {other}; give a size for all."
                )
    if first is None:
        raise BadInput(f"None of the {len(ids)} images in {where} can be read ({failure}).")
    return first[1]
