"""What an image source is, and what it delivers."""

from __future__ import annotations

import copy
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
    """The images of one request that loaded, in the order asked for."""

    images: Images
    """float32 [k, 3, height, width] in [0, 1], on the CPU; k may be 0."""
    indices: tuple[int, ...]
    """Position in ``source.ids`` of each of the k images."""
    skipped: tuple[Skipped, ...]
    """The rest of the request."""

    def __len__(self) -> int:
        return len(self.indices)


@runtime_checkable
class ImageSource(Protocol):
    """Images with stable ids, loaded on demand. Never empty; every image has the same ``shape``."""

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
        """Images by position; what cannot be read is skipped with its reason. IndexError for no position."""
        ...

    def subset(self, keep: Keep, /) -> ImageSource:
        """The images named (in that order) or masked.

        BadInput: an id that is unknown or repeated, a mask of another length, nothing left.
        """
        ...

    def fingerprint(self) -> str:
        """SHA-256 (hex) that changes with ids, order, content and shape; not with place or time."""
        ...


def in_batches(source: ImageSource, *, batch: int, indices: Sequence[int] | None = None) -> Iterator[Loaded]:
    """Load ``indices`` (default: all) in order, ``batch`` at a time; memory stays that of one batch."""
    if batch < 1:
        raise BadInput(f"batch must be at least 1, not {batch}.")
    wanted = range(len(source.ids)) if indices is None else indices
    for start in range(0, len(wanted), batch):
        yield source.load(wanted[start : start + batch])


def checked_indices(indices: Sequence[int], *, count: int) -> tuple[int, ...]:
    """The indices as ints; IndexError for one outside 0 … count − 1."""
    wanted = tuple(int(i) for i in indices)
    for i in wanted:
        if not 0 <= i < count:
            raise IndexError(f"image {i} of {count}")
    return wanted


def positions(ids: Sequence[str], *, keep: Keep) -> tuple[int, ...]:
    """Positions in ``ids`` that ``keep`` selects; the errors are those of ``ImageSource.subset``."""
    if isinstance(keep, str):
        raise BadInput(f'A subset needs a list of image ids or a mask, not the text "{keep}".')
    if isinstance(keep, (np.ndarray, Tensor)):
        keep = keep.tolist()
    named = [item for item in keep if isinstance(item, str)]
    if named and len(named) == len(keep):
        chosen = _positions_of(ids, named=named)
    elif any(not isinstance(item, (bool, np.bool_)) for item in keep):
        raise BadInput("A subset needs image ids (text) or a mask (one bool per image), not a mixture or numbers.")
    elif keep and len(keep) != len(ids):
        raise BadInput(f"A mask needs one bool per image: expected {len(ids)}, came {len(keep)}.")
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
    """The source over the rows that ``keep`` selects, everything else shared; errors as ``ImageSource.subset``."""
    chosen = positions(source.ids, keep=keep)
    smaller = copy.copy(source)
    smaller.ids = tuple(source.ids[i] for i in chosen)
    smaller._rows = tuple(source._rows[i] for i in chosen)
    return smaller


def _positions_of(ids: Sequence[str], *, named: Sequence[str]) -> tuple[int, ...]:
    place = {image_id: i for i, image_id in enumerate(ids)}
    seen: set[str] = set()
    for name in named:
        if name not in place:
            raise BadInput(f'No image has the id "{name}"; {nearest(name, ids)}.')
        if name in seen:
            raise BadInput(f'The image id "{name}" is asked for twice.')
        seen.add(name)
    return tuple(place[name] for name in named)
