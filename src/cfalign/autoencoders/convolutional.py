"""The autoencoder that is trained step by step: convolutions to one whitened *vector*, and back.

docs/autoencoders.md says why the latent is a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from cfalign._errors import BadInput


class VectorAutoencoder(nn.Module):
    """Images [n, channels, size, size] in [0, 1] ↔ latents [n, latent] of unit variance."""

    def __init__(
        self,
        *,
        size: int = 64,
        channels: int = 3,
        latent: int = 128,
        encoder: Sequence[int] = (24, 48, 96),
        decoder: Sequence[int] = (96, 48, 24),
    ) -> None:
        super().__init__()
        side = size // 2 ** len(encoder)
        if len(encoder) != len(decoder) or side * 2 ** len(encoder) != size or side < 1:
            raise BadInput(
                f"An autoencoder with {len(encoder)} halvings needs a size that is a multiple of {2 ** len(encoder)}, "
                f"got {size}."
            )
        self.config: dict[str, Any] = {
            "kind": "autoencoder",
            "architecture": "convolutional",
            "size": size,
            "channels": channels,
            "latent": latent,
            "encoder": list(encoder),
            "decoder": list(decoder),
        }
        self.size = size
        self.encoder = _encoder(channels, encoder)
        self.to_latent = nn.Linear(encoder[-1] * side * side, latent)
        self.whiten = nn.BatchNorm1d(latent, affine=False, momentum=0.05)
        self.from_latent = nn.Linear(latent, decoder[0] * side * side)
        self.decoder = _decoder(channels, decoder)
        self.start = (decoder[0], side, side)

    def encode(self, images: Tensor) -> Tensor:
        """Latents [n, latent]."""
        z = self.to_latent(self.encoder(images * 2 - 1).flatten(1))
        whitened: Tensor = self.whiten(z)
        return whitened

    def decode(self, latents: Tensor) -> Tensor:
        """Images in [0, 1]."""
        return torch.sigmoid(self.decoder(self.from_latent(latents).view(-1, *self.start)))

    def forward(self, images: Tensor) -> Tensor:
        """The reconstruction."""
        return self.decode(self.encode(images))


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
    for before, after in pairwise(widths):
        layers += [
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.SiLU(),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1))
