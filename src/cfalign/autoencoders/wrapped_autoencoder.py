"""A user's object with ``encode`` and ``decode``, made into an autoencoder of images in [0, 1]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cfalign._errors import BadInput, BadModel
from cfalign._models.components import Components
from cfalign._models.guard import user_code
from cfalign._types import Autoencoder, Residual


class WrappedAutoencoder:
    """An autoencoder of images in [0, 1] around an object with ``encode`` and ``decode``; ``wrap`` makes it.

    It converts images to the range, the sides and the number of channels that the object expects, and converts the
    decoded images back. ``size`` is the side that images should have, or None where any will do.
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
        residual: Residual | None = None,
    ) -> None:
        if not (callable(getattr(module, "encode", None)) and callable(getattr(module, "decode", None))):
            raise BadInput(
                f"An autoencoder must have the methods encode and decode; {type(module).__name__} lacks one of them."
            )
        low, high = value_range
        if not low < high:
            raise BadInput(f"value_range must be (low, high) with low below high, got {value_range!r}.")
        if stride < 1:
            raise BadInput(f"stride must be at least 1, got {stride!r}.")
        self.module, self.size, self.name = module, size, name
        self.low, self.span = low, high - low
        self.stride, self.grey, self.residual = stride, grey, residual
        self._encoded: dict[tuple[int, ...], tuple[int, ...]] = {}  # shape of a latent → shape of its image

    def __repr__(self) -> str:
        size = "any size" if self.size is None else f"size {self.size}"
        return f"WrappedAutoencoder({self.name!r}, {type(self.module).__name__}, {size})"

    @property
    def pictures(self) -> Components | None:
        """The principal components of images, where the object knows them."""
        found: Components | None = getattr(self.module, "pictures", None)
        return found

    def encode(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to latents [n, ...].

        Raises BadModel where the object fails, or does not return a tensor with the batch on the first axis.
        """
        x = images.mean(1, keepdim=True) if self.grey else images
        x = _padded(x, self.stride)
        with user_code(f"The encode of autoencoder {self.name!r}, given images of shape {list(images.shape)},"):
            out = self.module.encode(x * self.span + self.low)
        out = _tensor(out, "encode", images)
        self._encoded[tuple(out.shape[1:])] = tuple(images.shape[1:])
        return out

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [n, ...] to images [n, c, h, w], in [0, 1] as far as the object keeps to its range.

        Rows and columns that ``encode`` added to reach a multiple of the stride are cut off again, by the shape of the
        images that were last encoded to latents of this shape. Raises BadModel as ``encode``.
        """
        with user_code(f"The decode of autoencoder {self.name!r}, given latents of shape {list(latents.shape)},"):
            out = self.module.decode(latents)
        out = (_tensor(out, "decode", latents) - self.low) / self.span
        if self.stride == 1 and not self.grey:
            return out
        channels, *sides = self._encoded.get(tuple(latents.shape[1:]), (3 if self.grey else out.shape[1], None, None))
        if self.grey:
            out = out.expand(-1, channels, -1, -1)
        return out[..., : sides[0], : sides[1]]


def _padded(images: Tensor, stride: int) -> Tensor:
    """The images with mirrored rows below and columns to the right, up to multiples of ``stride``.

    ``torch.nn.functional.pad`` refuses to mirror more rows than there are; here an image may be smaller than that.
    """
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
    """The side in pixels of the images to give to an autoencoder: ``asked``, else its own, else None.

    A convolutional autoencoder (``stride`` above 1) works on any size, so ``asked`` becomes its ``size``.

    >>> cfa.autoencoders.side_of(cfa.autoencoders.load("embedded"), asked=None)
    64
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
    residual: Residual | None = None,
) -> WrappedAutoencoder:
    """Any object with ``encode`` and ``decode`` as an autoencoder of images [n, c, h, w] in [0, 1].

    Args:
        module: its ``encode`` maps images to latents [n, ...], its ``decode`` maps latents to images.
        size: side of the square images that it works on, in pixels; None where any size will do.
        value_range: lowest and highest value of its own images, e.g. (−1, 1).
        stride: its sides must be multiples of this; other images are padded by reflection and cropped again.
        grey: its images have one channel: it gets the mean of the channels, and its output is repeated in each.
        name: what records and messages call it.
        residual: what becomes of the part of an image that it cannot draw, where the search does not say:
            ``"dropped"`` for one that draws all of its images; by default ``"gated"`` (``SearchOptions.residual``).

    Raises BadInput for an object without the two methods, an empty range or a stride below 1.

    >>> import torch
    >>> class Halves(torch.nn.Module):
    ...     def encode(self, images):  # in [-1, 1]
    ...         return torch.nn.functional.avg_pool2d(images, 2)
    ...     def decode(self, latents):
    ...         return torch.nn.functional.interpolate(latents, scale_factor=2)
    >>> autoencoder = cfa.autoencoders.wrap(Halves(), value_range=(-1.0, 1.0), stride=2, name="halves")
    >>> autoencoder
    WrappedAutoencoder('halves', Halves, any size)
    >>> autoencoder.decode(autoencoder.encode(torch.rand(1, 3, 15, 20))).shape
    torch.Size([1, 3, 15, 20])
    """
    return WrappedAutoencoder(
        module, size=size, value_range=value_range, stride=stride, grey=grey, name=name, residual=residual
    )
