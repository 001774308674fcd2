"""From images in [0, 1] to a model's input: resize, crop, normalise. All steps are differentiable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from cfalign._errors import BadInput

Interpolation = Literal["nearest", "bilinear", "bicubic"]


@dataclass(frozen=True)
class Preprocessing:
    """Images [n, c, h, w] in [0, 1] to what a model expects, in the order of the fields; None leaves a step out.

    Raises BadInput unless there are as many means as standard deviations, all of them above 0.

    >>> import torch
    >>> prepare = cfa.classifiers.Preprocessing(resize=256, crop=(224, 224), mean=(0.5,), std=(0.25,))
    >>> prepare(torch.rand(2, 3, 300, 400)).shape
    torch.Size([2, 3, 224, 224])
    """

    channels: int | None = None
    """Number of channels that the model takes; None for any number. The classifier checks it."""
    grey: bool = False
    """Whether the channels are averaged first."""
    square: bool = False
    """Whether images are then cropped at their centre to a square."""
    resize: int | tuple[int, int] | None = None
    """Length of the shorter side in pixels, at the same aspect ratio; or (height, width)."""
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    clip: bool = False
    """Whether values that a bicubic filter puts outside [0, 1] are clipped, as they are in 8-bit images."""
    crop: tuple[int, int] | None = None
    """(height, width) of the crop at the centre; smaller images are padded with black."""
    crop_down: bool = False
    """Whether a centre between two pixels is rounded down; otherwise it is rounded to the even one."""
    mean: tuple[float, ...] | None = None
    """Mean per channel, or one for all, of images in [0, 1]; it is subtracted."""
    std: tuple[float, ...] | None = None
    """Standard deviation per channel, or one for all; images are divided by it."""

    def __post_init__(self) -> None:
        mean, std = self.mean or (), self.std or ()
        if len(mean) != len(std) or not all(s > 0 for s in std):
            raise BadInput(f"Expected as many means as stds, and stds above 0; got {self.mean} and {self.std}.")

    def __call__(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to the model's input."""
        x = images.mean(dim=1, keepdim=True) if self.grey else images
        if self.square:
            x = _square(x)
        if self.resize is not None:
            x = self._resized(x)
        if self.crop is not None:
            x = self._cropped(x, self.crop)
        if self.mean is None or self.std is None:
            return x
        mean, std = (torch.tensor(part, dtype=x.dtype, device=x.device) for part in (self.mean, self.std))
        return (x - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)

    def _resized(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if isinstance(self.resize, int):
            long = int(self.resize * max(height, width) / min(height, width))
            size = (long, self.resize) if width <= height else (self.resize, long)
        else:
            assert self.resize is not None
            size = self.resize
        if size == (height, width):
            return x
        if not self.clip:
            return self._interpolated(x, size)
        # 8-bit images are resized, and clipped, in two passes
        wide = self._interpolated(x, (height, size[1])).clamp(0, 1)
        return self._interpolated(wide, size).clamp(0, 1)

    def _interpolated(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        if self.interpolation == "nearest":
            return functional.interpolate(x, size, mode="nearest-exact")  # as Pillow does it
        return functional.interpolate(x, size, mode=self.interpolation, antialias=self.antialias)

    def _cropped(self, x: Tensor, crop: tuple[int, int]) -> Tensor:
        lack = [max(0, wanted - there) for wanted, there in zip(crop, x.shape[-2:], strict=True)]
        if any(lack):
            x = functional.pad(x, (lack[1] // 2, lack[1] - lack[1] // 2, lack[0] // 2, lack[0] - lack[0] // 2))
        top, left = (
            (there - wanted) // 2 if self.crop_down else round((there - wanted) / 2)
            for wanted, there in zip(crop, x.shape[-2:], strict=True)
        )
        return x[..., top : top + crop[0], left : left + crop[1]]


def _square(x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    side = min(height, width)
    top, left = height // 2 - side // 2, width // 2 - side // 2
    return x[..., top : top + side, left : left + side]


def resized_and_normalised(
    size: int | None, normalize: tuple[Sequence[float], Sequence[float]] | None
) -> Preprocessing:
    """Bilinear to squares of side ``size``, then (means, stds). Raises BadInput where those are something else."""
    square = None if size is None else (size, size)
    if normalize is None:
        return Preprocessing(resize=square)
    try:
        mean, std = (tuple(float(v) for v in part) for part in normalize)
    except (TypeError, ValueError) as error:
        raise BadInput(f"normalize must be (means, stds), one number per channel; got {normalize!r}.") from error
    channels = len(mean) if len(mean) > 1 else None  # one number is for all channels
    return Preprocessing(channels=channels, resize=square, mean=mean, std=std)
