"""Image files below a folder."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from cfalign.datasets.decoding import EXTENSIONS, Crop, Size, Unreadable, decode, quiet, upright_size
from cfalign.datasets.images import Keep, Loaded, Skipped, checked_indices, positions
from cfalign.errors import BadInput

# Decoding releases the GIL; more threads than this only hold more large images in memory at once.
_THREADS = max(1, min(4, os.cpu_count() or 1))
_WHOLE = 64 * 1024
_PIECE = 16 * 1024


class ImageFolder:
    """The images below ``path``, decoded on demand, as [k, 3, size, size] (``decoding`` says how).

    Ids are the paths relative to the folder, with ``/``, sorted; sub-folders count, symbolic links are
    followed, names that begin with a dot are ignored. ``size=None`` keeps the pixels as they are, which needs
    files of one size. ``crop="none"`` keeps the whole frame, stretched to the square of a given ``size``.

    A file that cannot be read becomes ``Skipped`` when it is loaded. BadInput: no such folder, a file, a
    folder that cannot be listed, no image file, a bad ``size`` or ``crop``, and for ``size=None`` files of
    different sizes.
    """

    def __init__(self, path: str | os.PathLike[str], *, size: int | None = None, crop: Crop = "square") -> None:
        if size is not None and (not isinstance(size, int) or size < 1):
            raise BadInput(f"The image size must be a whole number of pixels, at least 1, or None; came {size!r}.")
        if crop not in get_args(Crop):
            raise BadInput(f'crop must be one of {", ".join(get_args(Crop))}; came "{crop}".')
        root = Path(path).expanduser()
        files = _find(root)
        self.ids: tuple[str, ...] = tuple(files)
        self.source = root.name or root.resolve().name or str(root)
        self._paths = tuple(files.values())
        self._crop: Crop = crop
        self.shape: Size = (size, size) if size is not None else _common_size(files, root=root, crop=crop)

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, indices: Sequence[int], /) -> Loaded:
        """Decode the files at these positions in a few threads; memory: the result and a few files."""
        wanted = checked_indices(indices, count=len(self.ids))
        pixels = np.empty((len(wanted), 3, *self.shape), dtype=np.float32)

        def fill(slot: int) -> str | None:
            try:
                pixels[slot] = decode(self._paths[wanted[slot]], size=self.shape, crop=self._crop)
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

    def subset(self, keep: Keep, /) -> ImageFolder:
        """The images named (in that order) or masked; see ``ImageSource.subset``."""
        chosen = positions(self.ids, keep=keep)
        smaller = copy.copy(self)
        smaller.ids = tuple(self.ids[i] for i in chosen)
        smaller._paths = tuple(self._paths[i] for i in chosen)
        return smaller

    def fingerprint(self) -> str:
        """SHA-256 over shape, crop, and of each file its id, its bytes' count and its bytes.

        Of files above 64 KiB only three pieces of 16 KiB are read: the start, the middle and the end.
        """
        digest = hashlib.sha256(f"folder {self.shape} {self._crop}\n".encode())
        with ThreadPoolExecutor(_THREADS) as pool:
            for image_id, content in zip(self.ids, pool.map(_content_digest, self._paths), strict=True):
                digest.update(f"{len(image_id)} {image_id} {content}\n".encode())
        return digest.hexdigest()


def read_image(path: str | os.PathLike[str], *, size: int, crop: Crop = "square") -> Tensor:
    """One file as [3, size, size] in [0, 1], by the rules of ``ImageFolder``. BadInput when it cannot be read."""
    file = Path(path).expanduser()
    if not file.exists():
        raise BadInput(f"There is no image {str(file)!r}.")
    if file.is_dir():
        raise BadInput(f"Expected one image file, but {file} is a folder; name a file in it.")
    try:
        with quiet():
            return torch.from_numpy(decode(file, size=(size, size), crop=crop).copy())
    except Unreadable as error:
        raise BadInput(f"The image {file} cannot be read: {error}.") from error


def _find(root: Path) -> dict[str, Path]:
    """Image files by id, sorted by id."""
    if not root.exists():
        raise BadInput(f"No such image folder: {root}.")
    if not root.is_dir():
        raise BadInput(f"Expected a folder of images, but {root} is a file; name the folder that holds it.")
    found: dict[str, Path] = {}
    others = 0
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue
            if name.lower().endswith(EXTENSIONS):
                path = Path(place, name)
                found[_image_id(path, root=root)] = path
            else:
                others += 1
    if not found:
        looked = ", ".join(EXTENSIONS)
        what = f"none of its {others} files is one" if others else "it is empty"
        raise BadInput(f"No image in {root}: {what}; looked for {looked}, sub-folders included.")
    return dict(sorted(found.items()))


def _refuse(error: OSError) -> None:
    raise BadInput(
        f"The folder {error.filename} cannot be listed: {(error.strerror or str(error)).lower()}."
    ) from error


def _image_id(path: Path, *, root: Path) -> str:
    # A name that is not UTF-8 arrives with surrogates, which no table or JSON file accepts.
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _common_size(files: dict[str, Path], *, root: Path, crop: Crop) -> Size:
    def measure(path: Path) -> Size | Unreadable:
        try:
            return upright_size(path, crop=crop)
        except Unreadable as error:
            return error

    first: tuple[str, Size] | None = None
    failure = ""
    with quiet(), ThreadPoolExecutor(_THREADS) as pool:
        for image_id, size in zip(files, pool.map(measure, files.values()), strict=True):
            if isinstance(size, Unreadable):
                failure = failure or f"{image_id}: {size}"
            elif first is None:
                first = (image_id, size)
            elif size != first[1]:
                one, other = (f"{name} has {w}x{h}" for name, (h, w) in (first, (image_id, size)))
                after = " after the square crop" if crop == "square" else ""
                raise BadInput(f"The images in {root} differ in size{after}: {one}, {other}; give a size for all.")
    if first is None:
        raise BadInput(f"None of the {len(files)} image files in {root} can be read ({failure}).")
    return first[1]


def _content_digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        length = path.stat().st_size if path.is_file() else -1
        digest.update(f"{length}\n".encode())
        if length > 0:
            with path.open("rb") as file:
                starts = (0,) if length <= _WHOLE else (0, (length - _PIECE) // 2, length - _PIECE)
                for start in starts:
                    file.seek(start)
                    digest.update(file.read(_WHOLE if length <= _WHOLE else _PIECE))
    except OSError:
        digest.update(b"unreadable")
    return digest.hexdigest()
