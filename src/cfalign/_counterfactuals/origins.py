"""Images before any walk, and how a point of the latent space becomes one of them again.

An autoencoder cannot draw all of an image x. What it leaves out, the residual x − D(z0), is kept by default, as far as
the structure that it belongs to is still there:

    x_λ = D(z_λ) + (1 − m) (x − D(z0)),   1 − m = (cov + ε²) / (var + ε²), within [0, 1]

where var is the variance of D(z0) around a pixel, and cov its covariance with D(z_λ) there, both summed over the
channels. So a counterfactual starts at the image itself; skin stays sharp where only its shade changes, and old detail,
such as teeth, goes with the structure that carried it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadModel
from cfalign._models.autoencoding import decoded, encoded
from cfalign._types import Autoencoder, Residual

WINDOW = 1.5 / 64
"""Standard deviation of the Gaussian that weighs the surroundings of a pixel, as a share of the shorter side."""
EPSILON = 0.02
"""Contrast, of 1, below which there is no structure that could go."""


@dataclass(frozen=True)
class Origins:
    """Images before any walk."""

    latents: Tensor
    """z0 [image, *latent]."""
    images: Tensor
    """x0, where walks start, [image, c, h, w]: D(z0), or the image itself where its residual is kept."""
    drawn: Tensor
    """D(z0) [image, c, h, w]."""
    residual: Residual = "dropped"

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, rows: Tensor) -> Origins:
        """Some of the images."""
        latents, images, drawn = (t[rows.to(t.device)] for t in (self.latents, self.images, self.drawn))
        return Origins(latents, images, drawn, self.residual)

    def in_pixels(self) -> Origins:
        """The same where every image is its own latent: nothing is left out of it."""
        return Origins(self.images, self.images, self.images)

    def completed(self, rows: Tensor, drawn: Tensor) -> Tensor:
        """Images [k, c, h, w] of which the autoencoder drew ``drawn``, with the residuals of ``rows`` [k]."""
        if self.residual == "dropped":
            return drawn
        rows = rows.to(drawn.device)
        before = self.drawn[rows]
        left_out = self.images[rows] - before
        stays = 1 - gate(before, drawn.detach()) if self.residual == "gated" else 1.0
        return (drawn + stays * left_out).clamp(0, 1)


def joined(parts: Sequence[Origins]) -> Origins:
    """All images of several, which are treated alike."""
    latents, images, drawn = (torch.cat([getattr(p, name) for p in parts]) for name in ("latents", "images", "drawn"))
    return Origins(latents, images, drawn, parts[0].residual)


def gate(before: Tensor, after: Tensor) -> Tensor:
    """m, the share of the residual that goes where ``before`` is drawn as ``after``, [k, c, h, w] each: [k, 1, h, w]."""
    here, there = before - blurred(before), after - blurred(after)
    variance, covariance = (blurred((here * other).sum(dim=1, keepdim=True)) for other in (here, there))
    return 1 - ((covariance + EPSILON**2) / (variance + EPSILON**2)).clamp(0, 1)


def blurred(maps: Tensor) -> Tensor:
    """Maps [k, c, h, w] under the Gaussian of ``WINDOW``; edges are repeated outwards."""
    kernel = _kernel(WINDOW * min(maps.shape[-2:])).to(maps)
    reach = len(kernel) // 2
    one = functional.pad(maps.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    one = functional.conv2d(functional.conv2d(one, kernel[None, None, None]), kernel[None, None, :, None])
    return one.view_as(maps)


@cache
def _kernel(deviation: float) -> Tensor:
    reach = math.ceil(3 * deviation)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).double() / deviation) ** 2)
    return weights / weights.sum()


def decode(latents: Tensor, autoencoder: Autoencoder) -> Tensor:
    """D(z), clipped to [0, 1]."""
    return decoded(autoencoder, latents).clamp(0, 1)


def settled(search: SearchOptions, autoencoder: Autoencoder) -> SearchOptions:
    """The search with what it leaves to the autoencoder: what becomes of residuals."""
    return replace(search, residual=search.residual or getattr(autoencoder, "residual", None) or "gated")


@torch.no_grad()
def origins(images: Tensor, autoencoder: Autoencoder, *, search: SearchOptions, batch: int = 64) -> Origins:
    """Where walks of images [n, c, h, w] start. Raises BadModel as ``reconstruct``."""
    residual = settled(search, autoencoder).residual
    assert residual is not None
    latents, drawn = reconstruct(images, autoencoder, batch=batch)
    return Origins(latents, drawn if residual == "dropped" else images, drawn, residual)


@torch.no_grad()
def reconstruct(images: Tensor, autoencoder: Autoencoder, *, batch: int = 64) -> tuple[Tensor, Tensor]:
    """z0 = E(x) and D(z0) of images [n, c, h, w], ``batch`` at a time.

    Raises BadModel when the reconstruction has another shape than the images or is far outside [0, 1].
    """
    parts = [_reconstructed(part, autoencoder) for part in images.split(batch)]
    latents, drawn = (torch.cat([part[i] for part in parts]) for i in range(2))
    return latents, drawn


def _reconstructed(images: Tensor, autoencoder: Autoencoder) -> tuple[Tensor, Tensor]:
    latents = encoded(autoencoder, images)
    drawn = decoded(autoencoder, latents)
    if tuple(drawn.shape) != tuple(images.shape):
        raise BadModel(
            f"The autoencoder turned images of shape {tuple(images.shape)} into {tuple(drawn.shape)}; expected the "
            "same shape: give images of the size it was made for (--size, or an attribute `size` on the autoencoder)."
        )
    low, high = (drawn.min().item(), drawn.max().item()) if drawn.numel() else (0.0, 1.0)
    if low < -0.25 or high > 1.25:
        raise BadModel(
            f"The autoencoder's images range from {low:.3g} to {high:.3g}; expected [0, 1]: let decode return values "
            "there, e.g. (x + 1) / 2 for a decoder that ends in tanh."
        )
    return latents, drawn.clamp(0, 1)
