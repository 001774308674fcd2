"""One item of a torch data set: its image as pixels, and its label.

An item is an image, a tuple or list that begins with one, or a dict that has one under a usual key. An image is a float
tensor or array in [0, 1] or one of bytes, [c, h, w], [h, w, c] or [h, w], or a picture of Pillow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cfalign._errors import BadInput
from cfalign.datasets.decoding import Size, picture_pixels
from cfalign.datasets.tensor_images import NUMPY_TYPES, ROUNDING, TORCH_TYPES, fitted
from cfalign.datasets.unreadable import Unreadable

IMAGE_KEYS = ("image", "images", "img", "pixel_values", "input", "inputs", "x", "data")
LABEL_KEYS = ("label", "labels", "target", "targets", "y", "attributes", "class")
_CHANNELS = (1, 3)


def image_of(item: Any, *, where: str) -> Any:
    """The image of an item. Raises BadInput for a dict without a usual key, and for an empty item."""
    if isinstance(item, Mapping):
        found = next((item[key] for key in IMAGE_KEYS if key in item), None)
        if found is None:
            keys = ", ".join(map(repr, item)) or "none"
            raise BadInput(f"{where}: a dict must have its image under one of {', '.join(IMAGE_KEYS)}, got {keys}.")
        return found
    if isinstance(item, (tuple, list)):
        if not item:
            raise BadInput(f"{where}: expected an image, or (image, label), got an empty {type(item).__name__}.")
        return item[0]
    return item


def label_of(item: Any, names: Sequence[str]) -> Any:
    """The label of an item: values under the names themselves, else what stands behind the image; None without one."""
    if isinstance(item, Mapping):
        if names and all(name in item for name in names):
            return [item[name] for name in names]
        return next((item[key] for key in LABEL_KEYS if key in item), None)
    return item[1] if isinstance(item, (tuple, list)) and len(item) > 1 else None


def pixels_of(image: Any, *, size: Size | None, where: str) -> Tensor:
    """An image as float32 [3, height, width] in [0, 1]: its centre square, resized, where that is not its size.

    ``size`` None keeps the size of a tensor, and of a picture its centre square. Raises BadInput for what is no image,
    for another number of channels, and for values outside [0, 1].
    """
    if isinstance(image, Image.Image):
        try:
            return torch.from_numpy(picture_pixels(image, size=size).copy())
        except Unreadable as error:
            raise BadInput(f"{where}: its picture cannot be used: {error}.") from error
    if not isinstance(image, (Tensor, np.ndarray)):
        raise BadInput(
            f"{where}: expected a tensor, an array or a picture of Pillow, alone or first in (image, label), got "
            f"{type(image).__name__}."
        )
    values = _in_unit_range(_channels_first(image, where), where)
    if size is not None and tuple(values.shape[-2:]) != size:
        values = fitted(values[None], shape=size)[0]
    return values.expand(3, -1, -1).contiguous()


def _channels_first(image: Tensor | np.ndarray[Any, Any], where: str) -> Tensor:
    """[c, h, w], of the type that it has, on the CPU. Raises BadInput for another shape or type."""
    known = image.dtype in TORCH_TYPES if isinstance(image, Tensor) else image.dtype.type in NUMPY_TYPES
    if not known:
        raise BadInput(f"{where}: expected floats in [0, 1] or bytes (uint8), got {image.dtype}.")
    shape = tuple(image.shape)
    if isinstance(image, np.ndarray):
        image = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))
    values = image.detach().cpu() if isinstance(image, Tensor) else torch.from_numpy(image.copy())
    if values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3:
        several = "; give single images, not batches" if len(shape) == 4 else ""
        raise BadInput(
            f"{where}: expected one image [c, h, w], [h, w, c] or [h, w], got the shape {list(shape)}{several}."
        )
    if values.shape[0] not in _CHANNELS and values.shape[2] in _CHANNELS:
        values = values.permute(2, 0, 1)
    if values.shape[0] not in _CHANNELS or 0 in values.shape:
        raise BadInput(f"{where}: expected 1 or 3 channels, first or last, and some pixels, got {list(shape)}.")
    return values


def _in_unit_range(values: Tensor, where: str) -> Tensor:
    """As float32 in [0, 1]; bytes are divided by 255. Raises BadInput for values outside."""
    if values.dtype == torch.uint8:
        return values.float().div(255)
    values = values.float()
    if not values.isfinite().all():
        raise BadInput(f"{where}: expected finite values in [0, 1], got NaN or infinity.")
    low, high = float(values.min()), float(values.max())
    if low >= -ROUNDING and high <= 1 + ROUNDING:
        return values.clamp(0, 1)
    if low >= 0 and high <= 255:
        raise BadInput(f"{where}: expected values in [0, 1], got {low:.4g} to {high:.4g}; divide by 255.")
    raise BadInput(
        f"{where}: expected values in [0, 1], got {low:.4g} to {high:.4g}: it looks normalised. The classifier itself "
        "normalises (classifiers.wrap(…, normalize=(mean, std))), so give the data set a transform without Normalize, "
        "or one that undoes it: image * std + mean."
    )
