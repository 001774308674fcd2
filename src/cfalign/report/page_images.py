"""Images for the page: read small, compared, and written into it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfalign._figures import style

Pixels = NDArray[np.uint8]
LARGEST = 256
"""Side in px above which an image is scaled down; the page shows it smaller than that."""
_LOSSLESS = 128
FRAME = (90, 90, 90)
"""Colour of a frame."""


def read_small(path: Path) -> Pixels | None:
    """Pixels [height, width, 3], or None where the file is absent or not an image."""
    try:
        with Image.open(path) as image:
            colour = image.convert("RGB")
            colour.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
            return np.asarray(colour, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def data_uri(pixels: Pixels, *, lossy: bool = False) -> str:
    """The image inside a ``data:`` address: PNG while small, JPEG beyond 128 px and where it may be ``lossy``."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if max(image.size) <= _LOSSLESS and not lossy:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.save(buffer, "JPEG", quality=86)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def difference(before: Pixels, after: Pixels) -> tuple[Pixels, int]:
    """Signed change from ``before`` to ``after``, amplified so that its largest parts show, and the factor used (1 to
    20).

    Per pixel the channel that changed most decides; red: brighter, blue: darker, white: no change.

    Raises:
        ValueError: the two differ in size.
    """
    if before.shape != after.shape:
        raise ValueError(f"Images of one size were expected, got {before.shape} and {after.shape}.")
    change = (after.astype(np.float64) - before.astype(np.float64)) / 255.0
    strongest = np.abs(change).argmax(axis=2)
    signed = np.take_along_axis(change, strongest[:, :, None], axis=2)[:, :, 0]
    peak = float(np.quantile(np.abs(signed), 0.99))
    factor = int(np.clip(np.floor(1.0 / max(peak, 1e-6)), 1, 20))
    table = np.array([_rgb(style.diverging(v)) for v in np.linspace(-1.0, 1.0, 255)], dtype=np.uint8)
    index = np.clip(np.round((signed * factor + 1.0) * 127.0), 0, 254).astype(np.int64)
    return table[index], factor


def framed(pixels: Pixels, region: tuple[float, float, float, float]) -> Pixels:
    """The image with a frame around a region: left, top, width and height as shares of the sides."""
    height, width = pixels.shape[:2]
    left, top, across, down = region
    columns = np.clip(np.round(np.array([left, left + across]) * width), 0, width - 1).astype(int)
    rows = np.clip(np.round(np.array([top, top + down]) * height), 0, height - 1).astype(int)
    found = pixels.copy()
    found[rows, columns[0] : columns[1] + 1] = FRAME
    found[rows[0] : rows[1] + 1, columns] = FRAME
    return found


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
