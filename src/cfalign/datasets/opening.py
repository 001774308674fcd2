"""Whatever the user has, as an image source, with labels where it brings its own."""

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
"""What stands before the colon of a spec, and what opens the rest."""
SPEC = (
    "a folder of images, searched recursively; celeba:FOLDER, waterbirds:FOLDER, hf:NAME_OR_FOLDER[:SPLIT], "
    "xrv:CLASS:FOLDER or webdataset:PATTERN"
)


def open_images(source: Openable, *, size: int | None = None) -> ImageSource:
    """A source of [k, 3, size, size] images from a folder, a spec, a tensor or array [n, c, h, w], or a source.

    ``size=None`` keeps the size that the images have. A source that is given must deliver ``size`` already.
    BadInput as in ``ImageFolder``, ``TensorImages`` and the families of ``open_dataset``, and for any other type.
    """
    return open_dataset(source, size=size)[0]


def open_dataset(source: Openable, *, size: int | None = None) -> tuple[ImageSource, Labels | None]:
    """The same, and the labels that the data set brings (None for a folder, a tensor, a source).

    A spec is ``celeba:FOLDER``, ``waterbirds:FOLDER``, ``hf:NAME_OR_FOLDER[:SPLIT]``, ``xrv:CLASS:FOLDER[:TABLE]`` or
    ``webdataset:PATTERN``; the modules of these names say what they expect. Any other text is a folder.
    """
    if isinstance(source, (str, os.PathLike)):
        return _from_text(os.fspath(source), size=size)
    if isinstance(source, (Tensor, np.ndarray)):
        return TensorImages(source, size=size), None
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
    return source, None


def _from_text(text: str, *, size: int | None) -> tuple[ImageSource, Labels | None]:
    family, colon, rest = text.partition(":")
    if colon and family in FAMILIES:
        if not rest:
            raise BadInput(f"{text!r} names no data; expected {SPEC}.")
        return FAMILIES[family](rest, size=size)
    if colon and re.fullmatch(r"[a-z]{2,}", family) and not Path(text).expanduser().exists():
        raise BadInput(f"No data sets of the family {family!r}; {nearest(family, FAMILIES)}.")
    return ImageFolder(text, size=size), None
