"""Whatever the user has, as an image source."""

from __future__ import annotations

import os

import numpy as np
from torch import Tensor

from cfalign.datasets.folder import ImageFolder
from cfalign.datasets.images import ImageSource
from cfalign.datasets.tensors import Pixels, TensorImages
from cfalign.errors import BadInput

Openable = str | os.PathLike[str] | Pixels | ImageSource


def open_images(source: Openable, *, size: int | None = None) -> ImageSource:
    """A source of [k, 3, size, size] images from a folder, a tensor or array [n, c, h, w], or a source.

    ``size=None`` keeps the size that the images have. A source that is given must deliver ``size`` already.
    BadInput as in ``ImageFolder`` and ``TensorImages``, and for any other type.
    """
    if isinstance(source, (str, os.PathLike)):
        return ImageFolder(source, size=size)
    if isinstance(source, (Tensor, np.ndarray)):
        return TensorImages(source, size=size)
    if not isinstance(source, ImageSource):
        raise BadInput(
            "Images must be a folder, a tensor or array [n, channels, height, width], or an image source; "
            f"came {type(source).__name__}."
        )
    if size is not None and source.shape != (size, size):
        height, width = source.shape
        raise BadInput(
            f'The image source "{source.source}" delivers {width}x{height}, but {size}x{size} is needed; '
            "open it with that size."
        )
    return source
