"""The autoencoder that needs no training steps: principal components with capped whitening.

z = Wᵀ(x − mean) / scale, D(z) = W(z · scale) + mean, clipped to [0, 1]. docs/autoencoders.md says why. Weaker
components than those of the latent serve to complete regions that are left out of an image.
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
    deviations: Tensor

    def __init__(self, *, size: int = 64, channels: int = 3, latent: int = 192, components: int | None = None) -> None:
        super().__init__()
        pixels, known = channels * size * size, latent if components is None else components
        self.config: dict[str, Any] = {
            "kind": "autoencoder",
            "architecture": "components",
            "size": size,
            "channels": channels,
            "latent": latent,
            "components": known,
        }
        self.size, self.shape, self.latent = size, (channels, size, size), latent
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("basis", torch.zeros(pixels, known))
        self.register_buffer("scale", torch.ones(latent))
        self.register_buffer("deviations", torch.ones(known))

    @property
    def pictures(self) -> Components:
        """What images differ in: all components, with their own deviations."""
        return Components(self.mean, self.basis, self.deviations)

    def take(self, found: Components, *, whiten_from: int) -> None:
        """Work on these components of images from now on, the strongest capped."""
        self.mean.copy_(found.mean)
        self.basis.copy_(found.directions)
        self.deviations.copy_(found.deviations)
        self.scale.copy_(found.first(self.latent).capped(whiten_from).deviations)

    @property
    def _walked(self) -> Components:
        return Components(self.mean, self.basis[:, : self.latent], self.scale)

    def encode(self, images: Tensor) -> Tensor:
        """Latents [n, latent]."""
        return self._walked.coordinates(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Images in [0, 1]."""
        flat = self._walked.away(latents) + self.mean
        return flat.view(-1, *self.shape).clamp(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        """The reconstruction."""
        return self.decode(self.encode(images))
