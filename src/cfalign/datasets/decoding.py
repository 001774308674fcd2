"""One image file to pixels.

Steps: first frame → upright by its EXIF orientation → grey or RGB (transparency on white, CMYK by Pillow's
plain conversion, no ICC profiles) → centre square (``crop="square"``) → bicubic resize with antialiasing
(Pillow's filter widens with the reduction). Eight-bit files are resized in 8 bits; 16-bit (0 … 65535) and
float grey files (which must hold [0, 1]) in float32, never through 8 bits. Large JPEGs are decoded at a
reduced scale that still has at least three times the pixels asked for along each side.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Crop = Literal["square", "none"]
Size = tuple[int, int]  # height, width

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
# Content decides, not the extension; the list keeps Pillow away from formats that start other programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GAP = 3.0
_quiet_lock = Lock()


class Unreadable(Exception):
    """The file gives no image; the message is the reason, in one line."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings about odd files, worker threads included.

    Enter it once around the threads: the warning filters belong to the process, hence the lock.
    """
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.init()  # plugins register here, before threads race for it
        yield


def decode(path: Path, *, size: Size, crop: Crop) -> NDArray[np.float32]:
    """The image as float32 [3, height, width] in [0, 1]. Raises Unreadable for any bad file."""
    try:
        with _opened(path) as image:
            return _pixels(image, size=size, crop=crop)
    except Unreadable:
        raise
    except MemoryError as error:
        raise Unreadable("not enough memory to decode it") from error
    except Exception as error:  # decoders answer broken files with any exception type
        raise Unreadable(_reason(error)) from error


def upright_size(path: Path, *, crop: Crop) -> Size:
    """Height and width after orientation and crop, from the header alone. Raises Unreadable."""
    try:
        with _opened(path) as image:
            width, height = image.size
            # Pillow turns TIFF files itself, and reports their size turned.
            if crop == "none" and image.format != "TIFF" and _orientation(image) >= 5:
                width, height = height, width
    except Unreadable:
        raise
    except Exception as error:  # see decode
        raise Unreadable(_reason(error)) from error
    return (min(height, width),) * 2 if crop == "square" else (height, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("not a regular file")  # a FIFO would block for ever
    if status.st_size == 0:
        raise Unreadable("empty file (0 bytes)")
    with path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise Unreadable(
                f"{image.width}x{image.height} pixels, more than the limit of {limit} (decompression bomb?)"
            )
        yield image


def _pixels(image: Image.Image, *, size: Size, crop: Crop) -> NDArray[np.float32]:
    height, width = size
    side = round(_GAP * max(size))
    if image.format in ("JPEG", "MPO") and (crop == "square" or height == width):
        image.draft(None, (side, side))
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    image = _grey_or_rgb(image)
    if turn is not None:
        image = image.transpose(turn)
    if crop == "square":
        image = _centre_square(image)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=_GAP)
    values = np.asarray(image)
    values = np.clip(values, 0, 1) if image.mode == "F" else values.astype(np.float32) / np.float32(255)
    planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
    return np.broadcast_to(planes, (3, height, width))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # broken metadata around good pixels: any exception type, and no orientation
        return 1


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    """Mode "F" in [0, 1] for grey files of more than 8 bits, else "L" or "RGB"."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _wide_grey(image)
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", colours.size, "white")
        return Image.alpha_composite(white, colours).convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _wide_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float32)
    top, kind = (1, "float") if image.mode == "F" else (65535, "integer")
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top):  # written so that NaN fails too
        raise Unreadable(f"{kind} grey values reach from {low:g} to {high:g}; expected 0 to {top}")
    return Image.fromarray(values / np.float32(top))


def _centre_square(image: Image.Image) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, upper = (width - side) // 2, (height - side) // 2
    return image if width == height else image.crop((left, upper, left + side, upper + side))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image (or a format other than " + ", ".join(_FORMATS) + ")"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow accepts (decompression bomb?)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    return text or type(error).__name__
