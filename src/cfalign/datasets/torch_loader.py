"""Torch data sets and loaders of them as image sources: read by index where there is one, else read once and kept.

A loader of a map-style data set is read as that data set, in its own order: batches, workers and ``shuffle`` change
nothing. What has no index (``IterableDataset``) is read once, in the order that it has, into a temporary file: 4 bytes
per value, so 0.6 MB per image of 224 pixels, and 12 GB for 20,000 of them.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    default_collate,
    default_convert,
)

from cfalign._errors import BadInput, CfalignError
from cfalign._models.guard import described, undisturbed
from cfalign.datasets.dataset_items import image_of, label_of, pixels_of
from cfalign.datasets.image_source import ImageSource
from cfalign.datasets.item_labels import labels_of_items
from cfalign.datasets.labels import Labels
from cfalign.datasets.tensor_images import TensorImages
from cfalign.datasets.torch_dataset import DatasetImages

_LOG = logging.getLogger(__name__)
_TWICE = 8
"""Images of a stream that are compared with those of a second reading."""
_SAME = 1e-3
_ROOM = 2**30
"""Bytes that stay free where a stream is kept."""
_LOOK = 256


def is_torch_data(source: object) -> bool:
    """Whether it is a loader, an iterable data set, or has a length and items by index and is no collection."""
    if isinstance(source, (DataLoader, IterableDataset)):
        return True
    plain = isinstance(source, (str, bytes, Mapping, list, tuple, Tensor, np.ndarray))
    return not plain and hasattr(source, "__getitem__") and hasattr(source, "__len__")


def open_torch(source: Any, *, size: int | None, names: Sequence[str]) -> tuple[ImageSource, Labels | None]:
    """The images of a data set or loader, and its labels where ``names`` are given; see ``open_dataset``."""
    prepare = None
    if isinstance(source, DataLoader) and not isinstance(source.dataset, IterableDataset):
        _refuse_sampler(source)
        if source.collate_fn not in (default_collate, default_convert):
            prepare = _Collated(source.collate_fn, tuple(names))
        if type(source.sampler) is RandomSampler:
            _LOG.info("The DataLoader shuffles; its images are read in the order of its data set.")
        source = source.dataset
    if isinstance(source, (DataLoader, IterableDataset)):
        return _held(source, size=size, names=names)
    images = DatasetImages(source, size=size, prepare=prepare, names=names)
    return images, images.labels() if names else None


def _refuse_sampler(loader: DataLoader[Any]) -> None:
    """Raises BadInput unless each pass of the loader has every image once, in whatever order."""
    samplers: list[Any] = [loader.sampler]
    batches: Any = loader.batch_sampler
    if batches is not None:
        samplers.append(batches.sampler if type(batches) is BatchSampler else batches)
    for sampler in samplers:
        kind, whole = type(sampler), len(loader.dataset)  # type: ignore[arg-type]
        once = kind is SequentialSampler or (kind is RandomSampler and not sampler.replacement)
        if not (once and len(sampler) == whole):
            raise BadInput(
                f"The DataLoader draws its images by {kind.__name__}, which may leave some out or repeat them; give "
                "its data set (loader.dataset), or torch.utils.data.Subset(loader.dataset, indices)."
            )


@dataclass(frozen=True)
class _Collated:
    """What a loader's own ``collate_fn`` makes of one item."""

    collate: Any
    names: tuple[str, ...]

    def __call__(self, item: Any) -> Any:
        return items_of(self.collate([item]), self.names, batched=True, where="A batch of one image")[0]


def _held(source: Any, *, size: int | None, names: Sequence[str]) -> tuple[TensorImages, Labels | None]:
    """All images of a stream, read once and kept in a temporary file that goes when they go."""
    title = type(source.dataset if isinstance(source, DataLoader) else source).__name__
    shape = None if size is None else (size, size)
    given: list[Any] = []
    first: list[Tensor] = []
    with tempfile.TemporaryFile(prefix="cfalign-") as file, undisturbed():
        for number, (image, label) in enumerate(_stream(source, shape, names, title)):
            shape = shape or (int(image.shape[1]), int(image.shape[2]))
            if tuple(image.shape[1:]) != shape:
                raise BadInput(
                    f"Image {number} of the data set {title} has {image.shape[2]}x{image.shape[1]} pixels, others have "
                    f"{shape[1]}x{shape[0]}; give a size for all, or a transform that brings them to one."
                )
            if number % _LOOK == 0:
                _refuse_full(number, title)
            file.write(image.numpy().tobytes())
            given.append(label)
            first += [image] if number < _TWICE else []
        if shape is None or not given:
            raise BadInput(f"The data set {title} must have at least one image, got none.")
        file.flush()
        _refuse_other_order(_stream(source, shape, names, title), first, title)
        values = np.memmap(file, dtype=np.float32, mode="c", shape=(len(given), 3, *shape))
    ids = tuple(map(str, range(len(given))))
    images = TensorImages(values, ids)
    images.source = title
    labels = labels_of_items(given, ids=ids, names=names, source=title) if names else None
    return images, labels


def _stream(
    source: Any, size: tuple[int, int] | None, names: Sequence[str], title: str
) -> Iterator[tuple[Tensor, Any]]:
    """Image and label of every item, in order. Raises BadInput for an error of the user's code."""
    number = 0
    batched = isinstance(source, DataLoader) and source.batch_size is not None
    try:
        batches = iter(source)
    except Exception as error:
        raise BadInput(f"The data set {title} cannot be read: it raised {described(error)}.") from error
    while True:
        where = f"Image {number} of the data set {title}"
        try:
            batch = next(batches)
        except StopIteration:
            return
        except CfalignError:
            raise
        except Exception as error:
            raise BadInput(f"{where} raised {described(error)}.") from error
        for item in items_of(batch, names, batched=batched, where=where):
            where = f"Image {number} of the data set {title}"
            image = pixels_of(image_of(item, where=where), size=size, where=where)
            yield image, label_of(item, names) if names else None
            number += 1


def _refuse_full(number: int, title: str) -> None:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < _ROOM:
        raise BadInput(
            f"The data set {title} has no index, so its images are kept in {tempfile.gettempdir()}, which is full "
            f"after {number} of them; give a map-style data set, which is read by index, a smaller size, or another "
            "TMPDIR."
        )


def _refuse_other_order(again: Iterator[tuple[Tensor, Any]], first: Sequence[Tensor], title: str) -> None:
    """Raises BadInput where a second reading begins with other images; one that has none tells nothing."""
    for number, (before, (now, _)) in enumerate(zip(first, again, strict=False)):
        if before.shape != now.shape or float((before - now).abs().max()) > _SAME:
            raise BadInput(
                f"Image {number} of the data set {title} is another one when it is read again, so that a number names "
                "no image: it must not shuffle, nor its transform draw at random."
            )


def items_of(batch: Any, names: Sequence[str], *, batched: bool, where: str) -> list[Any]:
    """The items of a batch, or the one item that it is.

    A batch is a tensor [n, c, h, w], a list of items, or (images, labels) or a dict with such images. Raises BadInput
    for a list of images that nobody has called a batch (``batched``), because it may be one image and its mask.
    """
    if isinstance(batch, (list, tuple)) and batch and _is_item(batch[0]):
        return list(batch)
    if isinstance(batch, list) and len(batch) > 1 and all(map(_is_picture, batch)):
        if not batched:
            raise BadInput(f"{where}: expected an image, or (image, label), got a list of {len(batch)} images.")
        return batch
    images = image_of(batch, where=where)
    several = isinstance(images, (list, tuple)) or getattr(images, "ndim", 0) == 4
    if not several:
        return [batch]
    label = label_of(batch, names) if names else None
    return [(image, _nth(label, i, len(images))) for i, image in enumerate(images)]


def _nth(label: Any, i: int, count: int) -> Any:
    """The label of one image of a batch; of columns, its value in each."""
    if label is None:
        return None
    if isinstance(label, (list, tuple)) and len(label) != count:
        return [column[i] for column in label]
    if isinstance(label, list) and label and getattr(label[0], "ndim", 0) == 1 and len(label[0]) == count:
        return [column[i] for column in label]
    return label[i]


def _is_item(thing: Any) -> bool:
    """Whether it is a dict, or a tuple with something that is no image, as (image, label)."""
    return isinstance(thing, Mapping) or (isinstance(thing, (tuple, list)) and not all(map(_is_picture, thing)))


def _is_picture(thing: Any) -> bool:
    return isinstance(thing, Image.Image) or getattr(thing, "ndim", 0) == 3
