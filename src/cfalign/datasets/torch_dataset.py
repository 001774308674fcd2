"""A map-style torch data set as an image source, read by index when an image is asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torch.utils.data import Subset

from cfalign._errors import BadInput, CfalignError, warn
from cfalign._models.guard import described as told
from cfalign._results import Skipped
from cfalign.datasets.dataset_items import image_of, label_of, pixels_of
from cfalign.datasets.grey_levels import darkness
from cfalign.datasets.image_source import Keep, Loaded, checked_indices, described, with_rows
from cfalign.datasets.inspection import spread
from cfalign.datasets.inventory import ImageWarning
from cfalign.datasets.item_labels import labels_of_items
from cfalign.datasets.labels import Labels
from cfalign.datasets.unreadable import Unreadable

_CELLS = 4
_SAME = 1e-3
"""Means of a part of an image that differ by more are of another image, not of other rounding."""
Prepare = Callable[[Any], Any]
"""From the item of an index to what is read."""


@dataclass(frozen=True)
class _Seen:
    """What is kept of an image that was read."""

    digest: bytes
    means: Tensor
    """[3, 4, 4]"""
    label: Any


class DatasetImages:
    """The images of a map-style torch data set: float32 [k, 3, height, width] in [0, 1], each read when asked for.

    Images have the names that the data set gives (the paths in ``samples`` of an ImageFolder, below its root), else
    their index: "0", "1", …. An OSError of ``__getitem__`` skips its image, as an image file that cannot be read is
    skipped; any other error ends the work, with the index. Nothing of the images is kept but a hash and a few means,
    which show whether an image is the same when it is read again.

    Args:
        dataset: has ``__len__`` and ``__getitem__``; an item is an image, (image, label, …) or a dict.
        size: side of the square images in pixels; None keeps the size, which must be that of all.
        prepare: applied to each item first.
        names: of the items' labels, for ``labels``.

    Some images are read twice. Raises BadInput for an empty data set, for items that are no images or not in [0, 1],
    and for a transform that draws at random.

    >>> import torch
    >>> pairs = torch.utils.data.TensorDataset(torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 1, 0, 1]))
    >>> images = cfa.datasets.open_images(pairs)
    >>> images, images.ids[:2]
    (DatasetImages('TensorDataset', 5 images, 8x8), ('0', '1'))
    """

    def __init__(
        self, dataset: Any, *, size: int | None = None, prepare: Prepare | None = None, names: Sequence[str] = ()
    ) -> None:
        self.source = type(dataset).__name__
        self._dataset, self._prepare, self._names = dataset, prepare, tuple(names)
        self.ids: tuple[str, ...] = names_of(dataset)
        if not self.ids:
            raise BadInput(f"The data set {self.source} must have at least one image, got none.")
        self._rows: Sequence[int] = range(len(self.ids))
        self._size = None if size is None else (size, size)
        self._seen: dict[int, _Seen] = {}
        self.shape: tuple[int, int] = (0, 0) if size is None else (size, size)
        self._look()

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return described("DatasetImages", self)

    def load(self, indices: Sequence[int], /) -> Loaded:
        """The images at these positions, one after the other in this process.

        Raises BadInput where an image is another one than when it was read before.
        """
        wanted = checked_indices(indices, count=len(self.ids))
        images: list[Tensor] = []
        good: list[int] = []
        skipped: list[Skipped] = []
        for i in wanted:
            try:
                images.append(self._read(self._rows[i]))
                good.append(i)
            except Unreadable as error:
                skipped.append(Skipped(self.ids[i], str(error)))
        stacked = torch.stack(images) if images else torch.empty(0, 3, *self.shape)
        return Loaded(images=stacked, indices=tuple(good), skipped=tuple(skipped))

    def subset(self, keep: Keep, /) -> DatasetImages:
        """The images with these ids (in this order) or that a mask keeps; see ``ImageSource.subset``."""
        return with_rows(self, keep)

    def fingerprint(self) -> str:
        """SHA-256 over shape, ids and the float32 values delivered. Images not read before are read."""
        digest = hashlib.sha256(f"dataset {self.shape}\n".encode())
        for image_id, row in zip(self.ids, self._rows, strict=True):
            digest.update(f"{len(image_id)} {image_id} ".encode() + self._digest(row))
        return digest.hexdigest()

    def labels(self) -> Labels:
        """The labels that the items bring, by the names that were given. Images not read before are read.

        A label is the index of a class (a column per class), or a 0 or 1 per name. Raises BadInput for any other.
        """
        for row in self._rows:
            self._digest(row)
        given = [self._seen[row].label if row in self._seen else None for row in self._rows]
        return labels_of_items(given, ids=self.ids, names=self._names, source=self.source)

    def _digest(self, row: int) -> bytes:
        try:
            if row not in self._seen:
                self._read(row)
        except Unreadable as error:
            return str(error).encode()
        return self._seen[row].digest

    def _look(self) -> None:
        """Read some images twice: they are images, of one size, and the same both times."""
        extremes, failure = [], ""
        for row in spread(len(self.ids)):
            try:
                image = self._read(row)
                self._read(row)
            except Unreadable as error:
                failure = failure or f"{self._where(row)}: {error}"
                continue
            extremes.append((float(image.min()), float(image.max())))
        if not extremes:
            raise BadInput(f"None of the images that were looked at can be read ({failure}).")
        if (sentence := darkness(extremes, self.source, advice="check their scale")) is not None:
            warn(sentence, ImageWarning, stacklevel=4)

    def _read(self, row: int) -> Tensor:
        """The image of a row. Raises Unreadable where its data cannot be read, BadInput for anything else."""
        where = self._where(row)
        item = self._item(row, where)
        image = pixels_of(image_of(item, where=where), size=self._size, where=where)
        if self.shape == (0, 0):
            self.shape = (int(image.shape[1]), int(image.shape[2]))
        if tuple(image.shape[1:]) != self.shape:
            (height, width), (h, w) = self.shape, image.shape[1:]
            raise BadInput(
                f"{where} has {w}x{h} pixels, others have {width}x{height}; give a size for all, or a transform that "
                "brings them to one."
            )
        self._compare(row, image, label_of(item, self._names) if self._names else None, where)
        return image

    def _item(self, row: int, where: str) -> Any:
        try:
            item = self._dataset[row]
            return item if self._prepare is None else self._prepare(item)
        except CfalignError:
            raise
        except OSError as error:
            raise Unreadable(told(error)) from error
        except Exception as error:
            raise BadInput(f"{where} raised {told(error)}.") from error

    def _compare(self, row: int, image: Tensor, label: Any, where: str) -> None:
        means = adaptive_avg_pool2d(image, min(_CELLS, *image.shape[1:]))
        if row not in self._seen:
            self._seen[row] = _Seen(hashlib.sha256(image.numpy().tobytes()).digest(), means, label)
        elif float((means - self._seen[row].means).abs().max()) > _SAME:
            raise BadInput(
                f"{where} is another image when it is read again: a transform draws at random (RandomCrop, RandomFlip, "
                "…). Give the data set the transform of validation, which draws nothing."
            )

    def _where(self, row: int) -> str:
        return f"Image {row} of the data set {self.source}"


def names_of(dataset: Any) -> tuple[str, ...]:
    """The names of a data set's items: the paths in ``samples``, below ``root`` where they lie there, else indices."""
    count = len(dataset)
    found = _own_names(dataset)
    if found is None or len(found) != count or len(set(found)) < count:
        return tuple(map(str, range(count)))
    return found


def _own_names(dataset: Any) -> tuple[str, ...] | None:
    if isinstance(dataset, Subset):
        inner = _own_names(dataset.dataset)
        return None if inner is None else tuple(inner[i] for i in dataset.indices)
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, Sequence) or not samples:
        return None
    paths = [sample[0] if isinstance(sample, (tuple, list)) and sample else sample for sample in samples]
    if not all(isinstance(path, (str, os.PathLike)) for path in paths):
        return None
    root = getattr(dataset, "root", None)
    return tuple(_below(PurePath(path), root) for path in paths)


def _below(path: PurePath, root: object) -> str:
    inside = isinstance(root, (str, os.PathLike)) and path.is_relative_to(root)
    return (path.relative_to(root) if inside else path).as_posix()  # type: ignore[arg-type]
