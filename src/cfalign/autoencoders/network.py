"""The autoencoder that cfalign trains: a convolutional encoder to one whitened *vector*, and a convolutional decoder.

Why a vector: see README.md in this folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cfalign.errors import BadInput


class VectorAutoencoder(nn.Module):
    """Images [n, channels, size, size] in [0, 1] ↔ latents [n, latent] of unit variance.

    ``linear`` adds a linear path both ways (to be initialised with principal components), which the convolutions refine.
    """

    def __init__(
        self,
        *,
        size: int = 64,
        channels: int = 3,
        latent: int = 128,
        encoder: Sequence[int] = (24, 48, 96),
        decoder: Sequence[int] = (96, 48, 24),
        linear: bool = False,
    ) -> None:
        super().__init__()
        side = size // 2 ** len(encoder)
        if len(encoder) != len(decoder) or side * 2 ** len(encoder) != size or side < 1:
            raise BadInput(
                f"An autoencoder with {len(encoder)} halvings needs a size that is a multiple of {2 ** len(encoder)}, "
                f"got {size}."
            )
        self.config: dict[str, Any] = {
            "kind": "autoencoder", "size": size, "channels": channels, "latent": latent,
            "encoder": list(encoder), "decoder": list(decoder), "linear": linear,
        }  # fmt: skip
        self.size = size
        self.encoder = _encoder(channels, encoder)
        self.to_latent = nn.Linear(encoder[-1] * side * side, latent)
        self.whiten = nn.BatchNorm1d(latent, affine=False, momentum=0.05)
        self.from_latent = nn.Linear(latent, decoder[0] * side * side)
        self.decoder = _decoder(channels, decoder)
        self.start = (decoder[0], side, side)
        self.linear = LinearPath(channels * size * size, latent) if linear else None

    def encode(self, images: Tensor) -> Tensor:
        """Latents [n, latent]."""
        z = self.to_latent(self.encoder(images * 2 - 1).flatten(1))
        if self.linear is not None:
            z = z + self.linear.encode(images)
        return self.whiten(z)  # type: ignore[no-any-return]

    def decode(self, latents: Tensor) -> Tensor:
        """Images in [0, 1]."""
        out = self.decoder(self.from_latent(latents).view(-1, *self.start))
        if self.linear is None:
            return torch.sigmoid(out)
        return (out + self.linear.decode(latents).view_as(out)).clamp(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        """The reconstruction."""
        return self.decode(self.encode(images))


class LinearPath(nn.Module):
    """Flattened pixels ↔ latent, linear."""

    def __init__(self, pixels: int, latent: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(pixels))
        self.down = nn.Parameter(torch.zeros(pixels, latent))
        self.up = nn.Parameter(torch.zeros(latent, pixels))

    def encode(self, images: Tensor) -> Tensor:
        """[n, latent]"""
        return (images.flatten(1) - self.mean) @ self.down

    def decode(self, latents: Tensor) -> Tensor:
        """[n, pixels]"""
        return latents @ self.up + self.mean


def _encoder(channels: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip((channels, *widths[:-1]), widths, strict=True):
        layers += [
            nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.SiLU(),
        ]
    return nn.Sequential(*layers)


def _decoder(channels: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.SiLU()]
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        layers += [
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.SiLU(),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1))


def build(config: dict[str, Any]) -> VectorAutoencoder:
    """The network that a weight file describes."""
    return VectorAutoencoder(**{k: v for k, v in config.items() if k in _ARGUMENTS})


_ARGUMENTS = ("size", "channels", "latent", "encoder", "decoder", "linear")
