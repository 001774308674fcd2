"""The members of a tar shard and their places in it; a shard that is compressed is unpacked to a temporary file."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from cfalign._errors import BadInput

_UNPACKED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
"""What a compressed file begins with → how it is read."""
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_PIECE = 1 << 20
_BOMB = 1 << 30
_RATIO = 100


@dataclass(frozen=True)
class Member:
    """A file in a shard."""

    name: str
    """Its path, as valid text."""
    start: int
    length: int
    whole: bool
    """Whether its bytes lie in one piece in the shard: a link and a sparse file do not."""


class Shard:
    """A tar file, open to be read by place for as long as this lives.

    Raises BadInput for a file that cannot be read, is no tar, or is compressed in a way that is not known here.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        copy = _unpacked(path)
        self.place = copy or path
        """The file in which members lie at their places."""
        if copy is not None:
            weakref.finalize(self, _removed, copy)

    def members(self) -> Iterator[Member]:
        """All but folders, in the order of the shard. Raises BadInput where the tar is damaged."""
        try:
            with tarfile.open(self.place, "r:") as tar:
                yield from _members(tar)
        except BadInput:
            raise
        except Exception as error:  # a damaged header is answered with many types
            raise _refused(self.path, getattr(error, "strerror", None) or str(error) or type(error).__name__) from error

    def bytes_of(self, member: Member, *, most: int) -> bytes:
        """The first bytes of a member."""
        with self.place.open("rb") as file:
            file.seek(member.start)
            return file.read(min(member.length, most))


def _members(tar: tarfile.TarFile) -> Iterator[Member]:
    before = -1
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # or the list grows with the shard
        if member.size < 0 or member.offset <= before:  # or it would be read in a circle
            raise tarfile.ReadError("a header leads back to what was read before")
        before = member.offset
        if not member.isdir():
            whole = member.isreg() and not member.issparse()
            yield Member(_text(member.name), member.offset_data, member.size, whole)


def _text(name: str) -> str:
    # A name that is not UTF-8 arrives with surrogates, which no table or JSON file accepts.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _unpacked(path: Path) -> Path | None:
    """The shard without its compression, in a temporary file; None where it has none."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
        read = next((read for mark, read in _UNPACKED.items() if head.startswith(mark)), None)
        if read is not None:
            return _copied(path, read)
    except BadInput:
        raise
    except Exception as error:  # each of the compressions has errors of its own
        raise _refused(path, getattr(error, "strerror", None) or str(error)) from error
    if head.startswith(_ZSTANDARD):
        raise BadInput(f"The shard {path} is compressed with Zstandard: unpack it first (zstd -d).")
    return None


def _copied(path: Path, read: Callable[[Path], Any]) -> Path:
    packed, written = path.stat().st_size, 0
    with NamedTemporaryFile(prefix="cfalign-", suffix=".tar", delete=False) as copy:
        try:
            with read(path) as stream:
                while piece := stream.read(_PIECE):
                    written += copy.write(piece)
                    if written > max(_BOMB, _RATIO * packed):
                        raise BadInput(
                            f"The shard {path} unpacks to more than {_RATIO} times its size (decompression bomb?)."
                        )
        except BaseException:
            _removed(Path(copy.name))
            raise
    return Path(copy.name)


def _removed(file: Path) -> None:
    file.unlink(missing_ok=True)


def _refused(path: Path, reason: str) -> BadInput:
    return BadInput(f"The shard {path} cannot be read as a tar: {' '.join(reason.split())}.")
