"""Image sources from a folder, a spec, a tensor, a torch data set or a source, with labels where there are any."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cfalign._errors import BadInput, nearest
from cfalign.datasets.families.celeba import open_celeba
from cfalign.datasets.families.huggingface import open_hf
from cfalign.datasets.families.waterbirds import open_waterbirds
from cfalign.datasets.families.webdataset import open_webdataset
from cfalign.datasets.families.xrv import open_xrv
from cfalign.datasets.image_folder import ImageFolder
from cfalign.datasets.image_source import ImageSource
from cfalign.datasets.labels import Labels
from cfalign.datasets.tensor_images import ImageArray, TensorImages
from cfalign.datasets.torch_loader import is_torch_data, open_torch

Openable = str | os.PathLike[str] | ImageArray | ImageSource | Dataset[Any] | DataLoader[Any]
FAMILIES: dict[str, Callable[..., tuple[ImageSource, Labels | None]]] = {
    "celeba": open_celeba,
    "waterbirds": open_waterbirds,
    "hf": open_hf,
    "xrv": open_xrv,
    "webdataset": open_webdataset,
}
"""What stands before the colon of a spec → the function that opens the rest."""
SPEC = (
    "a folder of images, searched recursively; celeba:FOLDER, waterbirds:FOLDER, hf:NAME_OR_FOLDER[:SPLIT], "
    "xrv:CLASS:FOLDER or webdataset:PATTERN"
)


def open_images(source: Openable, *, size: int | None = None, bit_depth: int | None = None) -> ImageSource:
    """A source of images: float32 [k, 3, size, size] in [0, 1], loaded on demand.

    Args:
        source: a folder of image files, a spec (see ``open_dataset``), a tensor or array [n, c, h, w], a torch data set
            or loader of images (see ``DatasetImages``), or an image source, which is returned as it is.
        size: side of the square images in pixels; None keeps the size that they have. A source must deliver ``size``
            already.
        bit_depth: bits that grey values of image files use, so that 2**bit_depth − 1 is white: 12 for values up to
            4095 in files of 16 bits. By default what each file says, and else all of its bits.

    Warns (``ImageWarning``) where more than 1 % of the images found are left out, and where the images are almost
    black. Raises BadInput as ``ImageFolder``, ``TensorImages`` and ``open_dataset``, and for anything else.

    >>> import numpy as np
    >>> cfa.datasets.open_images(np.eye(28, dtype=np.uint8)[None, None] * 255, size=32)
    TensorImages('array', 1 image, 32x32)
    """
    return open_dataset(source, size=size, bit_depth=bit_depth)[0]


def open_dataset(
    source: Openable,
    *,
    size: int | None = None,
    bit_depth: int | None = None,
    label_names: Sequence[str] | None = None,
) -> tuple[ImageSource, Labels | None]:
    """A source of images as ``open_images``, and the labels that the data set brings (else None).

    ============================  ==================================================================================
    ``celeba:FOLDER``             images and lists as the authors publish them
    ``waterbirds:FOLDER``         the same
    ``hf:NAME_OR_FOLDER[:SPLIT]``  a data set of Hugging Face (extra ``data``), e.g. ``hf:mnist:test[0:100]``
    ``xrv:CLASS:FOLDER[:TABLE]``  a data set of torchxrayvision (extra ``xrv``)
    ``webdataset:PATTERN``        tar shards, e.g. ``webdataset:shards-{000..003}.tar``
    ============================  ==================================================================================

    The modules of ``datasets.families`` say what each expects. Any other text is a folder of image files; a folder, a
    tensor and a source bring no labels.

    A torch data set, or a loader of one, is read by index where it has one; its batches, workers and ``shuffle`` play
    no part. A stream is read once and kept on disk, 4 bytes per value. Its labels count only where ``label_names`` says
    what they mean: names of classes for the index of one, or one name per value of 0 or 1.

    Raises BadInput as ``open_images``, for an unknown family, for a data set that is missing or damaged, for items that
    are no images in [0, 1] or change when they are read again, and for ``label_names`` without labels of items.

    >>> import torch
    >>> cfa.datasets.open_dataset(torch.rand(4, 3, 32, 32))
    (TensorImages('tensor', 4 images, 32x32), None)
    >>> pairs = torch.utils.data.TensorDataset(torch.rand(4, 3, 32, 32), torch.tensor([0, 2, 1, 0]))
    >>> cfa.datasets.open_dataset(pairs, label_names=["cat", "dog", "owl"])
    (DatasetImages('TensorDataset', 4 images, 32x32), Labels(4 images: cat, dog, owl))
    """
    ours = isinstance(source, (str, os.PathLike, Tensor, np.ndarray, ImageSource))
    if label_names is not None and (ours or not is_torch_data(source)):
        raise BadInput(
            f"label_names are for the items of a torch data set, got {type(source).__name__}; leave them out."
        )
    if isinstance(label_names, str):
        raise BadInput(f"label_names must be a list of names, got the text {label_names!r}.")
    if isinstance(source, (str, os.PathLike)):
        return _from_text(os.fspath(source), size=size, bit_depth=bit_depth)
    if bit_depth is not None:
        raise BadInput(
            f"A bit depth is for image files, got {type(source).__name__}; scale its values to [0, 1] first."
        )
    if isinstance(source, (Tensor, np.ndarray)):
        return TensorImages(source, size=size), None
    if not isinstance(source, ImageSource):
        if is_torch_data(source):
            return open_torch(source, size=size, names=label_names or ())
        raise BadInput(
            "Images must be a folder, a tensor or array [n, channels, height, width], a torch data set or loader, or "
            f"an image source, got {type(source).__name__}."
        )
    if size is not None and source.shape != (size, size):
        height, width = source.shape
        raise BadInput(
            f"The image source {source.source!r} must deliver {size}x{size}, got {width}x{height}; open it with that "
            "size."
        )
    return source, None


def _from_text(text: str, *, size: int | None, bit_depth: int | None) -> tuple[ImageSource, Labels | None]:
    family, colon, rest = text.partition(":")
    if colon and family in FAMILIES:
        if not rest:
            raise BadInput(f"The spec {text!r} names no data; expected {SPEC}.")
        return FAMILIES[family](rest, size=size, bit_depth=bit_depth)
    if colon and re.fullmatch(r"[a-z]{2,}", family) and not Path(text).expanduser().exists():
        raise BadInput(f"There is no family {family!r} of data sets; {nearest(family, FAMILIES)}.")
    return ImageFolder(text, size=size, bit_depth=bit_depth), None
