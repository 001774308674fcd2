"""Image files below a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cfalign._errors import BadInput
from cfalign.datasets.decoding import EXTENSIONS, Crop, Size, Unreadable, decode, quiet
from cfalign.datasets.encoded_images import EncodedImages, check_form
from cfalign.datasets.image_source import Keep, Loaded


class ImageFolder:
    """The images below ``path``, decoded on demand, as [k, 3, size, size] (``decoding`` says how).

    Ids are the paths relative to the folder, with ``/``, sorted; sub-folders count, symbolic links are
    followed, names that begin with a dot are ignored. ``size=None`` keeps the pixels as they are, which needs
    files of one size. ``crop="none"`` keeps the whole frame, stretched to the square of a given ``size``. ``name`` is
    what records call it, by default the folder's own.

    A file that cannot be read becomes ``Skipped`` when it is loaded. BadInput: no such folder, a file, a
    folder that cannot be listed, no image file, a bad ``size`` or ``crop``, and for ``size=None`` files of
    different sizes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: int | None = None,
        crop: Crop = "square",
        name: str | None = None,
    ) -> None:
        check_form(size, crop)
        root = Path(path).expanduser()
        files = _find(root)
        self.ids: tuple[str, ...] = tuple(files)
        self.source = name or root.name or root.resolve().name or str(root)
        self._images = EncodedImages(
            self.ids, _Files(tuple(files.values())), name=self.source, where=str(root), size=size, crop=crop
        )
        self.shape: Size = self._images.shape

    def __len__(self) -> int:
        return len(self.ids)

    def load(self, indices: Sequence[int], /) -> Loaded:
        """Decode the files at these positions in a few threads; memory: the result and a few files."""
        return self._images.load(indices)

    def subset(self, keep: Keep, /) -> EncodedImages:
        """The images named (in that order) or masked; see ``ImageSource.subset``."""
        return self._images.subset(keep)

    def fingerprint(self) -> str:
        """As ``EncodedImages.fingerprint``."""
        return self._images.fingerprint()


class _Files:
    """Paths as text: objects of Path would take most of the memory of a large folder."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __getitem__(self, row: int, /) -> Path:
        return Path(self._names[row])


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


def _find(root: Path) -> dict[str, str]:
    """Image files by id, sorted by id."""
    if not root.exists():
        raise BadInput(f"No such image folder: {root}.")
    if not root.is_dir():
        raise BadInput(f"Expected a folder of images, but {root} is a file; name the folder that holds it.")
    found: dict[str, str] = {}
    others = 0
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(root, followlinks=True, onerror=_refuse):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(place).relative_to(root).as_posix()
        for name in names:
            if name.startswith("."):
                continue
            if name.lower().endswith(EXTENSIONS):
                found[_image_id(name if below == "." else f"{below}/{name}")] = os.path.join(place, name)
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


def _image_id(name: str) -> str:
    # A name that is not UTF-8 arrives with surrogates, which no table or JSON file accepts.
    return os.fsencode(name).decode("utf-8", "backslashreplace")
