"""The autoencoder that needs no training steps: principal components with capped whitening.

z = Wᵀ(x − mean) / scale, D(z) = W(z · scale) + mean, clipped to [0, 1]. README.md in this folder says why.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cfalign._models.components import Components


class ComponentAutoencoder(nn.Module):
    """Images [n, channels, size, size] in [0, 1] ↔ latents [n, latent]."""

    mean: Tensor
    basis: Tensor
    scale: Tensor

    def __init__(self, *, size: int = 64, channels: int = 3, latent: int = 512) -> None:
        super().__init__()
        pixels = channels * size * size
        self.config: dict[str, Any] = {
            "kind": "autoencoder",
            "architecture": "components",
            "size": size,
            "channels": channels,
            "latent": latent,
        }
        self.size, self.shape = size, (channels, size, size)
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("basis", torch.zeros(pixels, latent))
        self.register_buffer("scale", torch.ones(latent))

    @property
    def components(self) -> Components:
        """The components of images, whitened as far as they are."""
        return Components(self.mean, self.basis, self.scale)

    def take(self, found: Components) -> None:
        """Work on these components of images from now on."""
        self.mean.copy_(found.mean)
        self.basis.copy_(found.directions)
        self.scale.copy_(found.deviations)

    def encode(self, images: Tensor) -> Tensor:
        """Latents [n, latent]."""
        return self.components.coordinates(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Images in [0, 1]."""
        flat = self.components.away(latents) + self.mean
        return flat.view(-1, *self.shape).clamp(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        """The reconstruction."""
        return self.decode(self.encode(images))
