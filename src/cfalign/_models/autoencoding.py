"""Calls of a user's ``encode`` and ``decode``: with copies that they may change, and named where they fail."""

from __future__ import annotations

from typing import Any

from torch import Tensor, contiguous_format

from cfalign._errors import BadModel
from cfalign._models.guard import user_code
from cfalign._types import Autoencoder


def encoded(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """E(x) of images [n, c, h, w], [n, ...]; a tensor of its own, whatever the autoencoder does with its own.

    Raises BadModel where ``encode`` raises an error, or does not return a tensor with the batch on the first axis.
    """
    with user_code(f"{_method(autoencoder, 'encode')}, given images of shape {list(images.shape)},"):
        found = autoencoder.encode(images.clone())
    return _tensor(found, autoencoder, "encode", images).clone(memory_format=contiguous_format)


def decoded(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """D(z) of latents [n, ...], contiguous. Raises BadModel as ``encoded``."""
    with user_code(f"{_method(autoencoder, 'decode')}, given latents of shape {list(latents.shape)},"):
        found = autoencoder.decode(latents.clone())
    return _tensor(found, autoencoder, "decode", latents).contiguous()


def _method(autoencoder: Any, name: str) -> str:
    return f"The {name} of autoencoder {getattr(autoencoder, 'name', type(autoencoder).__name__)!r}"


def _tensor(found: Any, autoencoder: Autoencoder, method: str, given: Tensor) -> Tensor:
    if isinstance(found, Tensor) and found.ndim and len(found) == len(given) and found.is_floating_point():
        return found
    came = f"{found.dtype} of shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
    raise BadModel(
        f"{_method(autoencoder, method)} returned {came} for a batch of {len(given)}; expected a tensor of floats with "
        "the batch on the first axis."
    )
