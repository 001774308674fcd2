"""A user's object with ``encode`` and ``decode`` as an autoencoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cfalign._errors import BadInput, BadModel
from cfalign._models.guard import user_code
from cfalign._types import Autoencoder


class WrappedAutoencoder:
    """Calls the module's ``encode`` and ``decode``, mapping images to and from the range, the size and the number of
    channels that it works in.
    """

    def __init__(
        self,
        module: Any,
        *,
        size: int | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        stride: int = 1,
        grey: bool = False,
        name: str = "autoencoder",
    ) -> None:
        if not (callable(getattr(module, "encode", None)) and callable(getattr(module, "decode", None))):
            raise BadInput(
                f"An autoencoder needs the methods encode and decode; {type(module).__name__} lacks one of them."
            )
        low, high = value_range
        if not low < high:
            raise BadInput(f"value_range must be (low, high) with low < high, got {value_range!r}.")
        if stride < 1:
            raise BadInput(f"stride must be at least 1, got {stride!r}.")
        self.module, self.size, self.name = module, size, name
        self.low, self.span = low, high - low
        self.stride, self.grey = stride, grey
        self._encoded: dict[tuple[int, ...], tuple[int, ...]] = {}  # shape of a latent → of the images it came from

    def encode(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to latents [n, ...]."""
        x = images.mean(1, keepdim=True) if self.grey else images
        x = _padded(x, self.stride)
        with user_code(f"The autoencoder's encode, given images of shape {list(images.shape)},"):
            out = self.module.encode(x * self.span + self.low)
        out = _tensor(out, "encode", images)
        self._encoded[tuple(out.shape[1:])] = tuple(images.shape[1:])
        return out

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [n, ...] to images in [0, 1], without the rows and columns that padding added to the images last
        encoded to latents of this shape.
        """
        with user_code(f"The autoencoder's decode, given latents of shape {list(latents.shape)},"):
            out = self.module.decode(latents)
        out = (_tensor(out, "decode", latents) - self.low) / self.span
        if self.stride == 1 and not self.grey:
            return out
        channels, *sides = self._encoded.get(tuple(latents.shape[1:]), (3 if self.grey else out.shape[1], None, None))
        if self.grey:
            out = out.expand(-1, channels, -1, -1)
        return out[..., : sides[0], : sides[1]]


def _padded(images: Tensor, stride: int) -> Tensor:
    """With rows below and columns to the right, mirrored from the image, up to multiples of ``stride``."""
    for axis in (-2, -1):
        length = images.shape[axis]
        if length % stride:
            place = torch.arange(length + -length % stride, device=images.device) % max(1, 2 * length - 2)
            images = images.index_select(axis, torch.minimum(place, 2 * length - 2 - place))
    return images


def _tensor(out: Any, method: str, given: Tensor) -> Tensor:
    if not isinstance(out, Tensor):
        raise BadModel(f"The autoencoder's {method} returned {type(out).__name__}; expected a tensor.")
    if not out.ndim or len(out) != len(given):
        raise BadModel(
            f"The autoencoder's {method} returned shape {list(out.shape)} for a batch of {len(given)}; expected the "
            "batch on the first axis."
        )
    return out


def side_of(autoencoder: Autoencoder, *, asked: int | None) -> int | None:
    """The side of the images to give to an autoencoder: the one asked for, or its own, or None where neither says.

    A convolutional one (``stride`` above 1) works on any size, so it takes the side asked for as its ``size``.
    """
    if asked is None:
        own: int | None = getattr(autoencoder, "size", None)
        return own
    if isinstance(autoencoder, WrappedAutoencoder) and autoencoder.stride > 1:
        autoencoder.size = asked
    return asked


def wrap(
    module: nn.Module | Any,
    *,
    size: int | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    stride: int = 1,
    grey: bool = False,
    name: str = "autoencoder",
) -> WrappedAutoencoder:
    """Any object with ``encode`` and ``decode``.

    ``size``: the side of the square images it works on; ``value_range``: what its images range over, e.g. (−1, 1);
    ``stride``: what the sides of its images must be multiples of (others are padded by reflection, and the decoded
    images cropped again); ``grey``: whether its images have one channel (it sees the mean of the channels, and what it
    decodes is repeated in each).
    """
    return WrappedAutoencoder(module, size=size, value_range=value_range, stride=stride, grey=grey, name=name)
