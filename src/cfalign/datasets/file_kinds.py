"""Kinds of files: by the ending of the name, and by the first bytes where the ending says nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

ALWAYS = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    *(".jpe", ".jfif", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".dib"),
)
"""Endings of images that are read with what is always installed."""
_HEIC = 'needs the package pillow-heif: pip install "cfalign[heic]"'
_DICOM = 'needs the package pydicom: pip install "cfalign[dicom]"'
_AVIF = "needs Pillow 11.3 or newer"
_CONVERT = "a kind of image that is not read: convert it to PNG or TIFF"
NEEDS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), ("pillow_heif", _HEIC)),
    **dict.fromkeys((".dcm", ".dicom"), ("pydicom", _DICOM)),
    ".avif": ("PIL.AvifImagePlugin", _AVIF),
}
"""Endings of images that are read where a module is there, and what is said where it is not."""
ENDINGS = (*ALWAYS, *NEEDS)
"""Endings of everything that is read, at least where its package is installed."""
_UNREAD = (
    ".jp2 .j2k .jpf .jpx .jpm .j2c .jxl .jxr .wdp .psd .psb .xcf .svg .svgz .eps .ai .ico .icns .cur .tga .dds .pcx "
    ".sgi .rgb .xbm .xpm .pfm .pam .hdr .exr .fit .fits .raw .dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 "
    ".raf .pef .srw .x3f .3fr .iiq .nii .mha .mhd .nrrd .mgz .svs .ndpi .mrxs .scn .czi .lif .nd2 .oib .vsi "
    ".npy .npz"
)
_OTHER_IMAGES = frozenset(_UNREAD.split())
"""Endings of images, and of arrays that are often images, which are not read."""
_DATA_SETS = {
    **dict.fromkeys((".parquet", ".arrow"), "a table: where it holds the images, write hf:FOLDER"),
    **dict.fromkeys((".tar", ".tgz"), "an archive: where it holds the images, write webdataset:PATTERN"),
    ".zip": "an archive: unpack it",
}
_OTHERS = (
    ".txt .csv .tsv .json .jsonl .ndjson .geojson .xml .yaml .yml .toml .ini .cfg .md .rst .html .htm .css .js .pdf "
    ".doc .docx .xls .xlsx .ods .odt .ppt .pptx .log .lst .db .sqlite .lnk .url .py .pyc .ipynb .m .r .sh .bat .mat "
    ".pkl .pickle .pt .pth .ckpt .onnx .safetensors .h5 .hdf5 .cls .names .lock .tmp .bak .md5 .sha256 .xmp .aae .thm "
    ".srt .mp4 .mov .m4v .avi .mkv .webm .wav .mp3 .gz .bz2 .xz .zst .7z .rar .idx .index .caption .label .crdownload "
    ".part"
)
_NO_IMAGES = frozenset(_OTHERS.split())
_NAMES = frozenset(("dicomdir", "thumbs.db", "desktop.ini", "icon\r", "license", "readme", "makefile", "checksums"))
"""Names, in lower case, of files that are no images though their ending says nothing or something else."""
USUAL = ".jpg, .png, .tif, .webp, .gif, .heic, .dcm or the like"
"""What is expected, for messages."""
_SHORT = 6  # an unknown ending that is longer is part of a name, and no kind
HEAD = 132
"""Bytes from which an image is known: DICOM has its mark behind a preamble of 128."""


@dataclass(frozen=True)
class Kind:
    """Why a file, member or row is not read."""

    what: str
    """Its ending, or what else its kind is known by."""
    reason: str
    """In a few words, with what helps."""
    lost: bool
    """Whether it is an image, or may well be one."""


HIDDEN = Kind("hidden", "the name begins with a dot", lost=False)


def ending(name: str) -> str:
    """The last ending of a file name, in lower case with its dot; empty where it has none.

    >>> from cfalign.datasets.file_kinds import ending
    >>> ending("a.b.JPG"), ending("scan"), ending(".hidden")
    ('.jpg', '', '')
    """
    stem, dot, last = name.rpartition(".")
    return f".{last.lower()}" if dot and stem.strip(".") else ""


def kind_of(name: str, head: Callable[[], bytes]) -> Kind | None:
    """Why a file of this name is not read; None for one that is. ``head`` gives its first bytes, where they are needed.

    An ending that is known decides. Any other file is an image when it begins like one.
    """
    if name.startswith("."):
        return HIDDEN
    last = ending(name)
    if last in ALWAYS:
        return None
    if last in NEEDS:
        module, reason = NEEDS[last]
        return None if find_spec(module) else Kind(last, reason, lost=True)
    if last in _OTHER_IMAGES or name.lower().endswith(".nii.gz"):
        return Kind(last, _CONVERT, lost=True)
    if last in _DATA_SETS:
        return Kind(last, _DATA_SETS[last], lost=False)
    if last in _NO_IMAGES or name.lower() in _NAMES:
        return Kind(last or name, "no image", lost=False)
    return _by_content(last if last[1:].isalpha() and len(last) <= _SHORT else "no known ending", head)


def first_bytes(path: str) -> bytes:
    """The first bytes of a regular file; none of anything else. Raises OSError."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would block for ever
        return b""
    with open(path, "rb", buffering=0) as file:
        return file.read(HEAD)


def _by_content(what: str, head: Callable[[], bytes]) -> Kind | None:
    try:
        found = image_kind(head())
    except OSError as error:
        return Kind(what, f"cannot be opened: {(error.strerror or str(error)).lower()}", lost=False)
    if found is None:
        return Kind(what, "does not begin like an image", lost=False)
    module, reason = {"HEIF": NEEDS[".heic"], "DICOM": NEEDS[".dcm"], "AVIF": NEEDS[".avif"]}.get(found, ("PIL", ""))
    return None if find_spec(module) else Kind(found, reason, lost=True)


def image_kind(head: bytes) -> str | None:
    """JPEG, PNG, GIF, WEBP, TIFF, BMP, HEIF, AVIF or DICOM by the first bytes; None for anything else.

    >>> from cfalign.datasets.file_kinds import image_kind
    >>> image_kind(b"GIF89a"), image_kind(b"name,label")
    ('GIF', None)
    """
    if head[128:132] == b"DICM":  # the 128 bytes before it may be the head of a TIFF file
        return "DICOM"
    for mark, found in _MARKS.items():
        if head.startswith(mark):
            return found
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "BMP"
    if head[4:8] == b"ftyp":
        return _brand(head)
    return None


_MARKS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def _brand(head: bytes) -> str | None:
    """Which of the files that begin with a list of brands it is; a film has others."""
    size = int.from_bytes(head[:4], "big")
    box = head[8 : max(min(size, len(head)), 12)]
    brands = {box[at : at + 4] for at in range(0, len(box), 4) if at != 4}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None
