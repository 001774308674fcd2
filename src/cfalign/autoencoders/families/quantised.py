"""Autoencoders with a codebook: the latent is the quantised code."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class QuantisedAutoencoder(nn.Module):
    """A ``VQModel`` of diffusers with images in [−1, 1].

    ``encode`` returns the nearest codes [n, code, h, w]. ``decode`` takes latents as they are, so that a latent shifted
    off the codes is not moved back to them.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def encode(self, images: Tensor) -> Tensor:
        """Quantised codes."""
        codes: Tensor = self.model.quantize(self.model.quant_conv(self.model.encoder(images)))[0]
        return codes

    def decode(self, latents: Tensor) -> Tensor:
        """Images, clipped to [−1, 1]."""
        condition = latents if self.model.config.norm_type == "spatial" else None
        images: Tensor = self.model.decoder(self.model.post_quant_conv(latents), condition)
        return images.clamp(-1, 1)


class LikeliestCodes(nn.Module):
    """The quantiser of a VQ-GAN trained with Gumbel noise, without the noise: the code of the largest logit.

    No gradient flows through the choice.
    """

    def __init__(self, *, channels: int, codes: int, length: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, codes, 1)
        self.embed = nn.Embedding(codes, length)

    def forward(self, features: Tensor) -> tuple[Tensor]:
        """Features [n, channels, h, w] to codes [n, length, h, w], in a tuple as diffusers' quantiser has it."""
        return (self.embed(self.proj(features).argmax(1)).permute(0, 3, 1, 2).contiguous(),)
