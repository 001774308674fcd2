"""Images that are in memory already."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from cfalign._errors import BadInput, warn
from cfalign.datasets.grey_levels import darkness
from cfalign.datasets.image_source import Keep, Loaded, checked_indices, described, with_rows
from cfalign.datasets.inventory import ImageWarning

ImageArray = Tensor | NDArray[np.generic]
_CHUNK = 256
ROUNDING = 1e-4
TORCH_TYPES = (torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64)
NUMPY_TYPES = (np.uint8, np.float16, np.float32, np.float64)


class TensorImages:
    """A tensor or array [n, c, h, w] as an image source that delivers float32 [k, 3, height, width] in [0, 1].

    The data is neither copied nor moved (a memory-mapped array stays on disk); do not change it afterwards. Loading
    copies the images asked for to float32 on the CPU; one channel becomes three.

    Args:
        images: c is 1 or 3; floats in [0, 1] (1e-4 beyond is clamped) or uint8 in 0 … 255.
        ids: n different texts; by default "000000", "000001", ….
        size: side of the square images; where it is not theirs, they are cropped to the centre square and resized
            (bicubic, antialiased). None keeps their size.

    Raises BadInput for another rank, number of channels or type, no image, NaN, values outside the range, and ids that
    are not n different texts. Warns (``ImageWarning``) of images that are almost black or almost constant.

    >>> import torch
    >>> images = cfa.datasets.TensorImages(torch.rand(5, 1, 28, 28), size=32)
    >>> images
    TensorImages('tensor', 5 images, 32x32)
    >>> images.ids[:2], images.load([4]).images.shape
    (('000000', '000001'), torch.Size([1, 3, 32, 32]))
    """

    def __init__(self, images: ImageArray, ids: Sequence[str] | None = None, *, size: int | None = None) -> None:
        _check_form(images)
        count, _, height, width = images.shape
        self._pixels: ImageArray = images.detach() if isinstance(images, Tensor) else images
        if size is not None and size < 1:
            raise BadInput(f"The image size must be at least 1 pixel, got {size}.")
        self.shape: tuple[int, int] = (height, width) if size is None else (size, size)
        self.ids: tuple[str, ...] = _checked_ids(ids, count=count)
        self.source = "tensor" if isinstance(images, Tensor) else "array"
        self._rows: Sequence[int] = range(count)
        extremes = [self._checked_extremes(start) for start in range(0, count, _CHUNK)]
        whole = min(low for low, _ in extremes), max(high for _, high in extremes)
        sentence = darkness([whole] * count, self.source, advice="check their scale")
        if sentence is not None:
            warn(sentence, ImageWarning, stacklevel=2)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return described("TensorImages", self)

    def load(self, indices: Sequence[int], /) -> Loaded:
        """Copies of the images at these positions; none is ever skipped."""
        wanted = checked_indices(indices, count=len(self.ids))
        images = _take(self._pixels, rows=[self._rows[i] for i in wanted]).clamp(0, 1)
        if tuple(images.shape[-2:]) != self.shape:
            images = fitted(images, shape=self.shape)
        return Loaded(images=images.expand(-1, 3, -1, -1).contiguous(), indices=wanted, skipped=())

    def subset(self, keep: Keep, /) -> TensorImages:
        """The images with these ids or that a mask keeps, on the same memory; see ``ImageSource.subset``."""
        return with_rows(self, keep)

    def fingerprint(self) -> str:
        """SHA-256 over ids, shape and the float32 values delivered."""
        digest = hashlib.sha256(f"tensor {self.shape}\n".encode())
        for image_id in self.ids:
            digest.update(f"{len(image_id)} {image_id}\n".encode())
        for start in range(0, len(self.ids), _CHUNK):
            chunk = self.load(range(start, min(start + _CHUNK, len(self.ids))))
            digest.update(chunk.images.numpy().tobytes())
        return digest.hexdigest()

    def _checked_extremes(self, start: int) -> tuple[float, float]:
        values = _take(self._pixels, rows=range(start, min(start + _CHUNK, len(self.ids))))
        broken = ~torch.isfinite(values).flatten(1).all(1)
        if broken.any():
            image_id = self.ids[start + int(broken.nonzero()[0])]
            raise BadInput(f"Image values must be finite, in [0, 1]; got NaN or infinity in {image_id!r}.")
        low, high = float(values.min()), float(values.max())
        if low < -ROUNDING or high > 1 + ROUNDING:
            image = values.flatten(1).sub(0.5).abs().amax(1).argmax()
            hint = "divide by 255" if low >= 0 and high <= 255 else "undo the normalisation; cfalign normalises itself"
            raise BadInput(
                f"Image values must lie in [0, 1], got {low:.4g} to {high:.4g}, the farthest in "
                f"{self.ids[start + int(image)]!r}; {hint}."
            )
        return low, high


def _check_form(images: ImageArray) -> None:
    shape = tuple(images.shape)
    if len(shape) != 4:
        hint = "; for one image, add an axis: images[None]" if len(shape) == 3 else ""
        raise BadInput(f"Images must have the shape [n, channels, height, width], got {list(shape)}{hint}.")
    if shape[1] not in (1, 3):
        last = shape[3] in (1, 3)
        hint = "; channels last? permute(0, 3, 1, 2) puts them first" if last else ""
        raise BadInput(f"Images must have 1 or 3 channels on axis 1, got {shape[1]} in {list(shape)}{hint}.")
    if 0 in shape:
        raise BadInput(f"Images must have at least one pixel, got the shape {list(shape)}.")
    # The scalar type is compared, so that arrays of the other byte order count too.
    known = images.dtype in TORCH_TYPES if isinstance(images, Tensor) else images.dtype.type in NUMPY_TYPES
    if not known:
        raise BadInput(f"Images must be floats in [0, 1] or uint8 in 0 to 255, got {images.dtype}.")


def _checked_ids(ids: Sequence[str] | None, *, count: int) -> tuple[str, ...]:
    if ids is None:
        return tuple(f"{i:06d}" for i in range(count))
    if isinstance(ids, str) or any(not isinstance(image_id, str) for image_id in ids):
        raise BadInput(f"Image ids must be a sequence of texts, one per image; got {_kinds(ids)}.")
    if len(ids) != count:
        raise BadInput(f"Image ids must be one per image: expected {count}, got {len(ids)}.")
    seen: set[str] = set()
    for image_id in ids:
        if image_id in seen:
            raise BadInput(f"Image ids must differ, got {image_id!r} twice.")
        seen.add(image_id)
    return tuple(ids)


def _kinds(ids: object) -> str:
    if isinstance(ids, str):
        return f"the text {ids!r}"
    return ", ".join(sorted({type(image_id).__name__ for image_id in ids}))  # type: ignore[attr-defined]


def _take(pixels: ImageArray, *, rows: Sequence[int]) -> Tensor:
    """A float32 copy [k, c, h, w] of these rows on the CPU; uint8 divided by 255."""
    # Indexing an array by a list copies, so that read-only arrays and odd strides never reach torch.
    part = pixels[list(rows)]
    scale = 255.0 if part.dtype in (torch.uint8, np.dtype(np.uint8)) else 1.0
    if isinstance(part, Tensor):
        return part.to("cpu", torch.float32).div(scale)
    return torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)).div(scale)


def fitted(images: Tensor, *, shape: tuple[int, int]) -> Tensor:
    """The centre squares of images [k, c, h, w] in [0, 1], resized (bicubic, antialiased)."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = images[..., top : top + side, left : left + side]
    return interpolate(square, size=shape, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
