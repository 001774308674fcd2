"""Files as people have them in folders of images: every kind and mode, odd, damaged, misnamed, and hostile."""

from __future__ import annotations

import base64
import gzip
import io
import pickle
import struct
import warnings
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

Maker = Callable[[np.random.Generator], bytes]
PNG_MARK = b"\x89PNG\r\n\x1a\n"


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file of this kind."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(rng: np.random.Generator, mode: str) -> Image.Image:
    """Random pixels of this mode, of a random small size."""
    height, width = (int(n) for n in rng.integers(1, 24, 2))
    if mode == "I;16":
        return Image.fromarray(rng.integers(0, 2 ** int(rng.integers(9, 17)), (height, width)).astype(np.uint16))
    if mode == "I":
        return Image.fromarray(rng.integers(-5 if rng.random() < 0.2 else 0, 70_000, (height, width)).astype(np.int32))
    if mode == "F":
        return Image.fromarray((rng.random((height, width)) * rng.choice([1, 255])).astype(np.float32))
    colours = Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
    if mode in ("LA", "RGBA"):
        colours.putalpha(Image.fromarray(rng.integers(0, 256, (height, width)).astype(np.uint8)))
    return Image.merge("LAB", colours.split()) if mode == "LAB" else colours.convert(mode)


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *, depth: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    """A PNG whose header promises this; ``data`` is compressed as it is."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return PNG_MARK + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


class Touch:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def _plain(kind: str, mode: str, **options: object) -> Maker:
    return lambda rng: saved(pixels(rng, mode), kind, **options)


def _turned(kind: str) -> Maker:
    def make(rng: np.random.Generator) -> bytes:
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(0, 12))
        return saved(pixels(rng, "RGB"), kind, exif=exif)

    return make


def _moving(kind: str) -> Maker:
    def make(rng: np.random.Generator) -> bytes:
        frames = [Image.fromarray(rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)) for _ in range(3)]
        return saved(frames[0], kind, save_all=True, append_images=frames[1:])

    return make


def _significant(rng: np.random.Generator) -> bytes:
    content = saved(pixels(rng, "I;16"), "PNG")
    return content[:33] + chunk(b"sBIT", bytes([int(rng.integers(0, 20))])) + content[33:]


def _transparent(rng: np.random.Generator) -> bytes:
    return saved(pixels(rng, "P"), "PNG", transparency=int(rng.integers(0, 255)))


def _pgm(rng: np.random.Generator) -> bytes:
    return b"P5 4 4 4095\n" + rng.integers(0, 4096, 16).astype(">u2").tobytes()


def _dicom_by_hand(rng: np.random.Generator) -> bytes:
    """An uncompressed grey image, element by element."""
    side, bits = int(rng.integers(1, 20)), int(rng.integers(8, 17))

    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        value += b" "[: len(value) % 2] if kind in (b"CS", b"DS") else b"\0"[: len(value) % 2]
        length = struct.pack("<H", len(value)) if kind not in (b"OW", b"OB") else struct.pack("<HI", 0, len(value))
        return struct.pack("<HH", group, number) + kind + length + value

    meta = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    head = element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta
    photometric = rng.choice([b"MONOCHROME1", b"MONOCHROME2", b"RGB", b"NONSENSE"])
    words = {0x2: 1, 0x10: side, 0x11: side, 0x100: 16, 0x101: bits, 0x102: bits - 1, 0x103: int(rng.integers(0, 2))}
    parts = [element(0x28, 2, b"US", struct.pack("<H", 1)), element(0x28, 4, b"CS", bytes(photometric))]
    parts += [element(0x28, n, b"US", struct.pack("<H", v)) for n, v in words.items() if n > 2]
    if rng.random() < 0.5:
        parts += [
            element(0x28, 0x1050, b"DS", b"40\\1"),
            element(0x28, 0x1051, b"DS", rng.choice([b"400", b"0", b"-3"])),
        ]
    values = rng.integers(0, 2**bits, side * side).astype("<u2").tobytes()
    return bytes(128) + b"DICM" + head + b"".join(parts) + element(0x7FE0, 0x10, b"OW", values)


def _heic(rng: np.random.Generator) -> bytes:
    if find_spec("pillow_heif") is None:
        return b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + rng.bytes(100)
    import pillow_heif

    pillow_heif.register_heif_opener()
    return saved(pixels(rng, "RGB").resize((16, 16)), "HEIF")


MADE: dict[str, Maker] = {
    **{f".png {mode}": _plain("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    **{f".jpg {mode}": _plain("JPEG", mode) for mode in ("L", "RGB", "CMYK")},
    **{
        f".tif {mode}": _plain("TIFF", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB")
    },
    **{f".tiff {name}": _plain("TIFF", "RGB", compression=name) for name in ("tiff_lzw", "tiff_deflate", "packbits")},
    **{f"{ending} moving": _moving(kind) for ending, kind in ((".gif", "GIF"), (".webp", "WEBP"), (".png", "PNG"))},
    **{f"{ending} turned": _turned(kind) for ending, kind in ((".jpeg", "JPEG"), (".webp", "WEBP"), (".png", "PNG"))},
    ".bmp": _plain("BMP", "RGB"),
    ".webp": _plain("WEBP", "RGB"),
    ".avif": _plain("AVIF", "RGB"),
    ".ppm": _plain("PPM", "RGB"),
    ".pgm": _pgm,
    ".pbm": _plain("PPM", "1"),
    ".jfif": _plain("JPEG", "RGB"),
    ".jpe": _plain("JPEG", "RGB"),
    ".tga": _plain("TGA", "RGB"),
    ".ico": _plain("ICO", "RGBA"),
    ".png significant": _significant,
    ".png transparent": _transparent,
    ".png long": lambda rng: png_of(50_000, 2, data=bytes(2 * (3 * 50_000 + 1))),
    ".png bomb": lambda rng: png_of(40_000, 40_000),
    ".png large": lambda rng: png_of(10_000, 10_000, data=bytes(1_000_000)),
    ".png deep colour": lambda rng: png_of(4, 4, depth=16, data=(b"\0" + rng.bytes(24)) * 4),
    ".ppm bomb": lambda rng: b"P6 90000 90000 255\n" + rng.bytes(50),
    ".ppm cut": lambda rng: b"P6 9 9 255\n" + rng.bytes(50),
    ".dcm": _dicom_by_hand,
    ".heic": _heic,
    ".jpg empty": lambda rng: b"",
    ".jpg page": lambda rng: b"<!doctype html><title>404</title>",
    ".png eps": lambda rng: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) deletefile\n",
    ".svg": lambda rng: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ".npy": lambda rng: b"\x93NUMPY\x01\x00" + rng.bytes(60),
    ".csv": lambda rng: b"image,hat\n0.png,1\n",
    ".json": lambda rng: b'{"hat": 1}',
    ".txt": lambda rng: rng.bytes(30),
    ".cls": lambda rng: b"%d" % rng.integers(0, 3),
    ".mp4": lambda rng: b"\0\0\0\x18ftypisom\0\0\0\0mp42" + rng.bytes(40),
    ".gz": lambda rng: gzip.compress(rng.bytes(50)),
    " noise": lambda rng: rng.bytes(int(rng.integers(0, 400))),
    ".xyz": lambda rng: rng.bytes(60),
}
"""By ending, and a word where there are several: what makes such a file."""


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The content cut, or with other bytes in some places; now and then as it was."""
    if rng.random() < 0.5 or not content:
        return content
    if rng.random() < 0.4:
        return content[: int(rng.integers(0, len(content)))]
    changed = bytearray(content)
    end = min(len(content), 400) if rng.random() < 0.5 else len(content)  # headers matter most
    for place in rng.integers(0, end, int(rng.integers(1, 9))):
        changed[place] = int(rng.integers(0, 256))
    return bytes(changed)


def odd_file(rng: np.random.Generator, *, trap: Path) -> tuple[str, bytes]:
    """An ending, and the content of a file; pickles of it would make the file ``trap``."""
    if rng.random() < 0.05:
        return str(rng.choice([".pkl", ".pt", ".png", ".cls"])), pickle.dumps(Touch(trap))
    kinds = list(MADE)
    kind = kinds[int(rng.integers(len(kinds)))]
    ending = kind.partition(" ")[0]
    content = damaged(MADE[kind](rng), rng)
    if rng.random() < 0.15:  # misnamed
        ending = str(rng.choice(["", ".jpg", ".PNG", ".tif", ".dcm", ".heic", ".123", ".b.jpg", ".seg.png"]))
    return ending, content


def odd_cell(rng: np.random.Generator, *, trap: Path) -> object:
    """A cell of a column of images."""
    _, content = odd_file(rng, trap=trap)
    forms = (content, {"bytes": content, "path": None}, None, {"bytes": None, "path": "nowhere.png"}, b"", "")
    texts = (
        base64.b64encode(content).decode(),
        "data:image/png;base64," + base64.b64encode(content).decode(),
        "a/b.png",
    )
    return forms[0] if rng.random() < 0.5 else (*forms, *texts)[int(rng.integers(9))]
