"""Image sources from a folder, a spec, a tensor, an array or a source, with labels where the data brings them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor

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

Openable = str | os.PathLike[str] | ImageArray | ImageSource
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
        source: a folder of image files, a spec (see ``open_dataset``), a tensor or array [n, c, h, w], or an image
            source, which is returned as it is.
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
    source: Openable, *, size: int | None = None, bit_depth: int | None = None
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
    tensor and a source bring no labels. Raises BadInput as ``open_images``, for an unknown family, and for a data set
    that is missing or damaged.

    >>> import torch
    >>> cfa.datasets.open_dataset(torch.rand(4, 3, 32, 32))
    (TensorImages('tensor', 4 images, 32x32), None)
    """
    if isinstance(source, (str, os.PathLike)):
        return _from_text(os.fspath(source), size=size, bit_depth=bit_depth)
    if bit_depth is not None:
        raise BadInput(
            f"A bit depth is for image files, got {type(source).__name__}; scale its values to [0, 1] first."
        )
    if isinstance(source, (Tensor, np.ndarray)):
        return TensorImages(source, size=size), None
    if not isinstance(source, ImageSource):
        raise BadInput(
            "Images must be a folder, a tensor or array [n, channels, height, width], or an image source, got "
            f"{type(source).__name__}."
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
