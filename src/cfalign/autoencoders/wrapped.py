"""A user's object with ``encode`` and ``decode`` as an autoencoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from cfalign.errors import BadInput, BadModel
from cfalign.isolation import user_code


class WrappedAutoencoder:
    """Calls the module's ``encode`` and ``decode``, mapping images to and from the range that it works in."""

    def __init__(
        self,
        module: Any,
        *,
        size: int | None = None,
        value_range: tuple[float, float] = (0.0, 1.0),
        name: str = "autoencoder",
    ) -> None:
        if not (callable(getattr(module, "encode", None)) and callable(getattr(module, "decode", None))):
            raise BadInput(
                f"An autoencoder needs the methods encode and decode; {type(module).__name__} lacks one of them."
            )
        low, high = value_range
        if not low < high:
            raise BadInput(f"value_range must be (low, high) with low < high, got {value_range!r}.")
        self.module, self.size, self.name = module, size, name
        self.low, self.span = low, high - low

    def encode(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to latents [n, ...]."""
        with user_code(f"The autoencoder's encode, given images of shape {list(images.shape)},"):
            out = self.module.encode(images * self.span + self.low)
        return _tensor(out, "encode", images)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [n, ...] to images in [0, 1]."""
        with user_code(f"The autoencoder's decode, given latents of shape {list(latents.shape)},"):
            out = self.module.decode(latents)
        return (_tensor(out, "decode", latents) - self.low) / self.span


def _tensor(out: Any, method: str, given: Tensor) -> Tensor:
    if not isinstance(out, Tensor):
        raise BadModel(f"The autoencoder's {method} returned {type(out).__name__}; expected a tensor.")
    if not out.ndim or len(out) != len(given):
        raise BadModel(
            f"The autoencoder's {method} returned shape {list(out.shape)} for a batch of {len(given)}; expected the "
            "batch on the first axis."
        )
    return out


def wrap(
    module: nn.Module | Any,
    *,
    size: int | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    name: str = "autoencoder",
) -> WrappedAutoencoder:
    """Any object with ``encode`` and ``decode``.

    ``size``: the side of the square images it works on; ``value_range``: what its images range over, e.g. (−1, 1).
    """
    return WrappedAutoencoder(module, size=size, value_range=value_range, name=name)
