"""One encoded image to pixels.

Steps: first frame → upright by its EXIF orientation → grey or RGB (transparency on white, CMYK by Pillow's plain
conversion, no ICC profiles) → centre square (``crop="square"``) → bicubic resize with antialiasing (Pillow's filter
widens with the reduction). Eight-bit files are resized in 8 bits; grey files of more bits (``grey_levels`` says which
value is white) and of floats (which must hold [0, 1]) are resized in float32, never through 8 bits. Large JPEGs are
decoded at a reduced scale that still has at least three times the pixels asked for along each side. DICOM files are
read as the module ``dicom`` describes, HEIC files with the extra ``heic``.

An encoded image is a file, a part of a file (``Span``, in a tar for example) or bytes.
"""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cfalign._errors import BadInput
from cfalign._models.extras import imported
from cfalign.datasets import dicom
from cfalign.datasets.file_kinds import HEAD, NEEDS, image_kind
from cfalign.datasets.grey_levels import ALL_BITS, said_bits, white_of
from cfalign.datasets.unreadable import Unreadable

Crop = Literal["square", "none"]
Size = tuple[int, int]  # height, width

# Content decides, not the ending; the list keeps Pillow away from formats that start other programs (EPS).
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "DIB")
_OF_FRAMES = ("TIFF", "GIF", "WEBP", "PNG", "AVIF")  # not those of phones, which keep small copies as further frames
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
_LARGEST = 2**30  # bytes of one file, which decoders may hold at once
_WHOLE = 64 * 1024
_PIECE = 16 * 1024
_quiet_lock = Lock()


@dataclass(frozen=True)
class Span:
    """Some bytes of a file."""

    path: Path
    start: int
    length: int


Content = Path | Span | bytes


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings about odd files, in worker threads too.

    Enter it once around the threads, because warning filters belong to the process; hence the lock.
    """
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.init()  # registers the plugins before threads do so at the same time
        yield


def decode(content: Content, *, size: Size, crop: Crop, bit_depth: int | None = None) -> NDArray[np.float32]:
    """The image as float32 [3, height, width] in [0, 1]. Raises Unreadable for a bad file of any kind.

    ``bit_depth``: the bits that grey values use, so that 2**bit_depth − 1 is white; by default what the file says.
    """
    try:
        with _opened(content) as image:
            return _pixels(image, size=size, crop=crop, bit_depth=bit_depth)
    except Unreadable:
        raise
    except MemoryError as error:
        raise Unreadable("not enough memory to decode it") from error
    except Exception as error:  # decoders answer broken files with any exception type
        raise Unreadable(_reason(error)) from error


def grey_pixels(values: NDArray[np.float32], *, size: Size, crop: Crop) -> NDArray[np.float32]:
    """A grey image [height, width] in [0, 1], cropped and resized as files are: [3, height, width]."""
    return _fitted(Image.fromarray(np.ascontiguousarray(values, dtype=np.float32)), size=size, crop=crop)


def picture_pixels(image: Image.Image, *, size: Size | None) -> NDArray[np.float32]:
    """The centre square of a picture in memory, as float32 [3, height, width] in [0, 1]; ``size`` None keeps its side.

    It is taken as it lies there: whoever opened it has turned it upright or not. Raises Unreadable for grey values
    outside their range.
    """
    grey = image.mode.startswith("I")
    ready = _wide_grey(image, said=None, png=False, bit_depth=None) if grey else _grey_or_rgb(image)
    return _fitted(ready, size=size or (min(image.size),) * 2, crop="square")


@dataclass(frozen=True)
class Look:
    """What the header of an image tells."""

    deep: bool
    """Whether it is grey, of more than 8 bits, and does not say how many of them it uses."""
    several_frames: bool


def look(content: Content) -> Look:
    """What the header of one image tells. Raises Unreadable."""
    try:
        with _opened(content, pixels=False) as image:
            several = bool(image.info.get("frames", 1) > 1)
            if image.format in _OF_FRAMES:
                several = bool(getattr(image, "is_animated", False))
            return Look(image.mode.startswith("I") and said_bits(image) is None, several)
    except Unreadable:
        raise
    except Exception as error:  # see decode
        raise Unreadable(_reason(error)) from error


def grey_range(content: Content) -> tuple[int, int]:
    """The least and the greatest value of a grey image, before they are scaled. Raises Unreadable."""
    try:
        with _opened(content) as image:
            values = np.asarray(image)
            return int(values.min()), int(values.max())
    except Unreadable:
        raise
    except Exception as error:  # see decode
        raise Unreadable(_reason(error)) from error


def content_digest(content: Content) -> str:
    """SHA-256 (hex) over the number of bytes and the bytes.

    Above 64 KiB only three pieces of 16 KiB are read: the start, the middle and the end.
    """
    digest = hashlib.sha256()
    try:
        with _stream(content) as (stream, start, length):
            digest.update(f"{length}\n".encode())
            if length > 0:
                starts = (0,) if length <= _WHOLE else (0, (length - _PIECE) // 2, length - _PIECE)
                for begin in starts:
                    stream.seek(start + begin)
                    digest.update(stream.read(length if length <= _WHOLE else _PIECE))
    except Unreadable:
        digest.update(b"-1\n")
    except OSError:
        digest.update(b"unreadable")
    return digest.hexdigest()


def upright_size(content: Content, *, crop: Crop) -> Size:
    """Height and width after orientation and crop, from the header alone. Raises Unreadable."""
    try:
        with _opened(content, pixels=False) as image:
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
def _opened(content: Content, *, pixels: bool = True) -> Iterator[Image.Image]:
    with _stream(content) as (stream, start, length):
        if length == 0:
            raise Unreadable("empty file (0 bytes)")
        if length > _LARGEST:
            raise Unreadable(f"{length} bytes, more than the limit of {_LARGEST} for one image")
        if isinstance(content, Span):  # decoders read from a file's beginning, and to its end
            stream.seek(start)
            stream = BytesIO(stream.read(length))
        stream.seek(0)
        kind = image_kind(stream.read(HEAD))
        stream.seek(0)
        if kind == "DICOM":
            yield dicom.read_dicom(stream) if pixels else dicom.blank_dicom(stream)
            return
        with Image.open(stream, formats=_formats(kind)) as image:
            _refuse_bomb(image)
            yield image


def _formats(kind: str | None) -> tuple[str, ...]:
    """What Pillow may take a file for. Raises Unreadable where that needs a package which is not installed."""
    if kind == "HEIF":
        try:
            imported("pillow_heif", extra="heic").register_heif_opener()
        except BadInput as error:
            raise Unreadable(f"HEIC {NEEDS['.heic'][1]}") from error
        return ("HEIF",)
    if kind == "AVIF":
        if find_spec(NEEDS[".avif"][0]) is None:
            raise Unreadable(f"AVIF {NEEDS['.avif'][1]}")
        return ("AVIF",)
    return _FORMATS


@contextmanager
def _stream(content: Content) -> Iterator[tuple[IO[bytes], int, int]]:
    """A stream, where in it the image begins, and how many bytes it has."""
    if isinstance(content, bytes):
        yield BytesIO(content), 0, len(content)
        return
    path = content if isinstance(content, Path) else content.path
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable("not a regular file")  # a FIFO would block for ever
    with path.open("rb") as file:
        if isinstance(content, Path):
            yield file, 0, status.st_size
        else:
            yield file, content.start, content.length


def _refuse_bomb(image: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Unreadable(f"{image.width}x{image.height} pixels, more than the limit of {limit} (decompression bomb?)")


def _pixels(image: Image.Image, *, size: Size, crop: Crop, bit_depth: int | None) -> NDArray[np.float32]:
    height, width = size
    side = round(_GAP * max(size))
    said = said_bits(image) if image.mode.startswith("I") else None
    png = image.format == "PNG"
    _refuse_deep_colour(image, bit_depth)
    if image.format in ("JPEG", "MPO") and (crop == "square" or height == width):
        image.draft(None, (side, side))
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    if image.mode.startswith("I"):
        image = _wide_grey(image, said=said, png=png, bit_depth=bit_depth)
    elif image.mode == "L" and bit_depth is not None and bit_depth < 8 and not image.has_transparency_data:
        image = _unit_grey(image, top=2**bit_depth - 1, kind="integer")
    else:
        image = _grey_or_rgb(image)
    if turn is not None:
        image = image.transpose(turn)
    return _fitted(image, size=size, crop=crop)


def _fitted(image: Image.Image, *, size: Size, crop: Crop) -> NDArray[np.float32]:
    height, width = size
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
    """Mode "F" in [0, 1] for grey files of floats, else "L" or "RGB"."""
    if image.mode == "F":
        return _unit_grey(image, top=1, kind="float")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", colours.size, "white")
        return Image.alpha_composite(white, colours).convert("RGB")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _wide_grey(image: Image.Image, *, said: int | None, png: bool, bit_depth: int | None) -> Image.Image:
    """Mode "F" in [0, 1] of a grey file of more than 8 bits."""
    values = np.asarray(image).astype(np.float32)
    return _unit_grey(image, top=white_of(values, said=said, png=png, bit_depth=bit_depth), kind="integer")


def _unit_grey(image: Image.Image, *, top: int, kind: str) -> Image.Image:
    values = np.asarray(image).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top):  # written so that NaN fails too
        raise Unreadable(f"{kind} grey values reach from {low:g} to {high:g}; expected 0 to {top}")
    return Image.fromarray(values / np.float32(top))


def _refuse_deep_colour(image: Image.Image, bit_depth: int | None) -> None:
    """Of 16-bit colours Pillow keeps the upper 8 bits, so that colours of fewer bits cannot be scaled."""
    if bit_depth is None or bit_depth == ALL_BITS or image.mode.startswith("I"):
        return
    if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        raise Unreadable(
            f"colours of 16 bits, of which the upper 8 are read: a bit depth of {bit_depth} cannot be applied; convert "
            "it to 8 bits per channel"
        )


def _centre_square(image: Image.Image) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, upper = (width - side) // 2, (height - side) // 2
    return image if width == height else image.crop((left, upper, left + side, upper + side))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image (or a format other than " + ", ".join((*_FORMATS[:-1], "AVIF", "HEIC", "DICOM")) + ")"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow accepts (decompression bomb?)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    return text or type(error).__name__
