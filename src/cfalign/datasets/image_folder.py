"""Image files below a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cfalign._errors import BadInput, warn
from cfalign.datasets.decoding import Crop, Size, decode, quiet
from cfalign.datasets.encoded_images import EncodedImages, check_form
from cfalign.datasets.file_kinds import HIDDEN, USUAL, first_bytes, kind_of
from cfalign.datasets.image_source import Keep, Loaded, described
from cfalign.datasets.inspection import levels_of
from cfalign.datasets.inventory import ImageWarning, Inventory, Tally
from cfalign.datasets.linked_folders import FolderWalk, LinkedIds
from cfalign.datasets.unreadable import Unreadable


class ImageFolder:
    """The image files below a folder, decoded on demand to float32 [k, 3, size, size] in [0, 1].

    Ids are the paths relative to the folder, with ``/``, sorted. Sub-folders count. ``inventory`` counts what is left
    out, kind by kind; where that is images, a warning says so. Symbolic links are followed; a folder that is reached in
    several ways is listed once, under its real name where that lies below the folder. The module ``file_kinds``
    describes which files are images, ``decoding`` orientation, colours, crop and resize. A file that cannot be read
    becomes ``Skipped`` when it is loaded.

    Args:
        path: the folder.
        size: side of the square images in pixels; None keeps the pixels as they are, which needs files of one size.
        crop: ``"square"`` takes the centre square; ``"none"`` stretches the whole frame to the square.
        name: what records call the source; by default the name of the folder.
        bit_depth: bits that grey values use, 1 to 16, so that 2**bit_depth − 1 is white; by default what each file
            says, and else all of its bits.

    Raises BadInput when the folder is missing, is a file or cannot be listed, when it holds no image file, for a bad
    ``size``, ``crop`` or ``bit_depth``, and for ``size=None`` with files of different sizes.

    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> folder = pathlib.Path(tempfile.mkdtemp()) / "photos"
    >>> folder.mkdir()
    >>> Image.new("RGB", (60, 40), "teal").save(folder / "a.png")
    >>> images = cfa.datasets.ImageFolder(folder, size=32)
    >>> images
    ImageFolder('photos', 1 image, 32x32)
    >>> images.load([0]).images.shape
    torch.Size([1, 3, 32, 32])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        size: int | None = None,
        crop: Crop = "square",
        name: str | None = None,
        bit_depth: int | None = None,
    ) -> None:
        check_form(size, crop, bit_depth)
        root = Path(path).expanduser()
        walk = FolderWalk(root, refuse=_refuse)
        files, inventory = _find(root, walk)
        self.ids: tuple[str, ...] = LinkedIds(files, walk.links)
        self.source = name or root.name or root.resolve().name or str(root)
        self._images = EncodedImages(
            self.ids,
            _Files(tuple(files.values())),
            name=self.source,
            where=str(root),
            size=size,
            crop=crop,
            bit_depth=bit_depth,
            inventory=inventory,
        )
        self.inventory: Inventory = self._images.inventory
        self.shape: Size = self._images.shape

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return described("ImageFolder", self)

    def load(self, indices: Sequence[int], /) -> Loaded:
        """Decode the files at these positions in a few threads, with the memory of the result and a few files."""
        return self._images.load(indices)

    def subset(self, keep: Keep, /) -> EncodedImages:
        """The images with these ids (in this order) or that a mask keeps; see ``ImageSource.subset``."""
        part = self._images.subset(keep)
        part.ids = LinkedIds(part.ids, getattr(self.ids, "links", None))
        return part

    def fingerprint(self) -> str:
        """As ``EncodedImages.fingerprint``."""
        return self._images.fingerprint()


class _Files:
    """Paths as text, because Path objects would take most of the memory of a large folder."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __getitem__(self, row: int, /) -> Path:
        return Path(self._names[row])


def read_image(
    path: str | os.PathLike[str], *, size: int, crop: Crop = "square", bit_depth: int | None = None
) -> Tensor:
    """One image file as float32 [3, size, size] in [0, 1], by the rules of ``ImageFolder``, warnings included.

    Raises BadInput when the file is missing or cannot be read.

    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.png"
    >>> Image.new("L", (9, 9), 255).save(file)
    >>> cfa.datasets.read_image(file, size=4)[0, 0].tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise BadInput(f"There is no image {str(file)!r}.")
    if file.is_dir():
        raise BadInput(f"Expected one image file, got the folder {file}; name a file in it.")
    check_form(size, crop, bit_depth)
    try:
        with quiet():
            pixels = torch.from_numpy(decode(file, size=(size, size), crop=crop, bit_depth=bit_depth).copy())
    except Unreadable as error:
        raise BadInput(f"The image {file} cannot be read: {error}.") from error
    levels = levels_of([file], size=(size, size), crop=crop, bit_depth=bit_depth)
    for sentence in () if levels is None else levels.warnings(str(file)):
        warn(sentence, ImageWarning, stacklevel=2)
    return pixels


def _find(root: Path, walk: FolderWalk) -> tuple[dict[str, str], Inventory]:
    """Image files by id, sorted by id, and what else there is."""
    if not root.exists():
        raise BadInput(f"No such image folder: {root}.")
    if not root.is_dir():
        raise BadInput(f"Expected a folder of images, got the file {root}; name the folder that holds it.")
    found: dict[str, str] = {}
    tally = Tally()
    for place, below, names in walk:
        for name in names:
            path, image_id = os.path.join(place, name), _image_id(f"{below}/{name}" if below else name)
            kind = kind_of(name, partial(first_bytes, path))
            if kind is None:
                found[image_id] = path
            else:
                tally.add(kind, image_id)
    for folder in walk.hidden:
        for place, _, names in os.walk(folder):
            for name in names:
                tally.add(HIDDEN, _image_id(os.path.relpath(os.path.join(place, name), root)))
    if not found:
        held = tally.words() or "an empty folder"
        raise BadInput(f"No image in {root}: expected {USUAL}, in sub-folders too; got {held}.")
    return dict(sorted(found.items())), tally.inventory(len(found), unit="files")


def _refuse(error: OSError) -> None:
    raise BadInput(
        f"The folder {error.filename} cannot be listed: {(error.strerror or str(error)).lower()}."
    ) from error


def _image_id(name: str) -> str:
    # A name that is not UTF-8 arrives with surrogates, which no table or JSON file accepts.
    return os.fsencode(name).decode("utf-8", "backslashreplace")
