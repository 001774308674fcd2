"""The interface of image sources, and what they deliver."""

from __future__ import annotations

import copy
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cfalign._errors import BadInput, nearest
from cfalign._results import Skipped
from cfalign._types import Images

Keep: TypeAlias = "Sequence[str] | Sequence[bool] | NDArray[np.bool_] | Tensor"
"""Which images to keep: their ids (the order counts) or a mask with one bool per image."""


@dataclass(frozen=True)
class Loaded:
    """The answer to one request: the images that could be loaded, in the order asked for, and those that could not."""

    images: Images
    """float32 [k, 3, height, width] in [0, 1], on the CPU; k may be 0."""
    indices: tuple[int, ...]
    """Position in ``source.ids`` of each of the k images."""
    skipped: tuple[Skipped, ...]
    """The images of the request that could not be loaded."""

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        height, width = self.images.shape[-2:]
        return f"Loaded({len(self)} images, {height}x{width}, {len(self.skipped)} skipped)"


@runtime_checkable
class ImageSource(Protocol):
    """Images with stable ids, loaded on demand. A source is never empty, and all its images have one ``shape``."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Unique, stable names."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the images delivered."""
        ...

    @property
    def source(self) -> str:
        """Where the images come from, in a word or two, for records."""
        ...

    def load(self, indices: Sequence[int], /) -> Loaded:
        """The images at these positions; what cannot be read is skipped with its reason.

        Raises IndexError for a position that does not exist.
        """
        ...

    def subset(self, keep: Keep, /) -> ImageSource:
        """The images with these ids (in this order), or those that a mask keeps.

        Raises BadInput for an id that is unknown or repeated, for a mask of another length, and when nothing is left.
        """
        ...

    def fingerprint(self) -> str:
        """SHA-256 (hex) that changes with ids, order, content and shape, and not with place or time."""
        ...


def in_batches(source: ImageSource, *, batch: int, indices: Sequence[int] | None = None) -> Iterator[Loaded]:
    """The images at ``indices`` (default: all) in order, ``batch`` at a time, with the memory of one batch.

    Raises BadInput for a batch below 1.

    >>> import torch
    >>> source = cfa.datasets.TensorImages(torch.rand(5, 3, 8, 8))
    >>> [len(loaded) for loaded in cfa.datasets.in_batches(source, batch=2)]
    [2, 2, 1]
    """
    if batch < 1:
        raise BadInput(f"batch must be at least 1, got {batch}.")
    wanted = range(len(source.ids)) if indices is None else indices
    for start in range(0, len(wanted), batch):
        yield source.load(wanted[start : start + batch])


def described(kind: str, source: ImageSource) -> str:
    """The repr of an image source of this class name."""
    height, width = source.shape
    images = "1 image" if len(source.ids) == 1 else f"{len(source.ids)} images"
    return f"{kind}({source.source!r}, {images}, {width}x{height})"


def checked_indices(indices: Sequence[int], *, count: int) -> tuple[int, ...]:
    """The indices as ints. Raises IndexError for one outside 0 … count − 1."""
    wanted = tuple(int(i) for i in indices)
    for i in wanted:
        if not 0 <= i < count:
            raise IndexError(f"image {i} of {count}")
    return wanted


def positions(ids: Sequence[str], *, keep: Keep) -> tuple[int, ...]:
    """The positions in ``ids`` that ``keep`` selects. Raises BadInput as ``ImageSource.subset``."""
    if isinstance(keep, str):
        raise BadInput(f"A subset needs a list of image ids or a mask, got the text {keep!r}.")
    if isinstance(keep, (np.ndarray, Tensor)):
        keep = keep.tolist()
    named = [item for item in keep if isinstance(item, str)]
    if named and len(named) == len(keep):
        chosen = _positions_of(ids, named=named)
    elif any(not isinstance(item, (bool, np.bool_)) for item in keep):
        raise BadInput("A subset needs image ids (text) or a mask (one bool per image), got numbers or a mixture.")
    elif keep and len(keep) != len(ids):
        raise BadInput(f"A mask needs one bool per image: expected {len(ids)}, got {len(keep)}.")
    else:
        chosen = tuple(i for i, kept in enumerate(keep) if kept)
    if not chosen:
        raise BadInput(f"The subset keeps none of the {len(ids)} images.")
    return chosen


@runtime_checkable
class _RowSource(Protocol):
    """A source whose images are rows of something that its subsets share."""

    ids: tuple[str, ...]
    _rows: Sequence[int]


Source = TypeVar("Source", bound=_RowSource)


def with_rows(source: Source, keep: Keep) -> Source:
    """The source of the rows that ``keep`` selects; all else is shared. Raises BadInput as ``ImageSource.subset``."""
    chosen = positions(source.ids, keep=keep)
    smaller = copy.copy(source)
    smaller.ids = tuple(source.ids[i] for i in chosen)
    smaller._rows = tuple(source._rows[i] for i in chosen)
    return smaller


def _positions_of(ids: Sequence[str], *, named: Sequence[str]) -> tuple[int, ...]:
    place = {image_id: i for i, image_id in enumerate(ids)}
    if any(name not in place for name in named):  # file systems compose accents differently
        place = {_composed(image_id): i for i, image_id in enumerate(ids)} | place
    seen: set[int] = set()
    found: list[int] = []
    for name in named:
        at = place.get(name, place.get(_composed(name)))
        if at is None:
            raise BadInput(f"No image has the id {name!r}; {nearest(name, ids)}.")
        if at in seen:
            raise BadInput(f"A subset needs each image id once, got {name!r} twice.")
        seen.add(at)
        found.append(at)
    return tuple(found)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
