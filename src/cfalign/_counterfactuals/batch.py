"""(image, base) pairs of a batch of images, and what decoding a latent gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfalign._counterfactuals.options import EstimateOptions
from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import Composition
from cfalign._heads.panel import Panel, Weights, weights
from cfalign._heads.scoring import respond
from cfalign._results import Floats
from cfalign._types import Autoencoder, Classifier


@dataclass(frozen=True)
class Scene:
    """Pairs of images and bases, and the models that a method may use."""

    latents: Tensor
    """z0 [image, *latent]."""
    reconstructions: Tensor
    """x0 [image, c, h, w]."""
    pairs: Pairs
    autoencoder: Autoencoder
    classifiers: Sequence[Classifier]
    estimate: EstimateOptions | None = None
    """How the gradient of a black box is found; ``latent-shift`` alone can."""
    batch: int = 64

    @property
    def origin(self) -> Tensor:
        """z0 of every pair, [pair, *latent]."""
        return self.latents[self.pairs.image.to(self.latents.device)]

    @property
    def before(self) -> Tensor:
        """x0 of every pair, [pair, c, h, w]."""
        return self.reconstructions[self.pairs.image.to(self.reconstructions.device)]

    def in_pixels(self) -> Scene:
        """The same pairs where the image is its own latent; the autoencoder is left out."""
        return replace(self, latents=self.reconstructions, autoencoder=PixelSpace())

    def project(self, points: Tensor) -> Tensor:
        """The nearest points that may be decoded: in pixels those in [0, 1]."""
        return points.clamp(0, 1) if isinstance(self.autoencoder, PixelSpace) else points


class PixelSpace:
    """An autoencoder that does nothing."""

    def encode(self, images: Tensor, /) -> Tensor:
        """The images."""
        return images

    def decode(self, latents: Tensor, /) -> Tensor:
        """The latents."""
        return latents


Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """(image, base) pairs."""

    image: Tensor
    """[pair] int64: row of the image in its batch."""
    weights: Weights
    """[pair] rows: the base of each pair."""

    def __len__(self) -> int:
        return len(self.image)


@torch.no_grad()
def reconstruct(images: Tensor, autoencoder: Autoencoder) -> tuple[Tensor, Tensor]:
    """z0 = E(x) and x0 = D(z0).

    Raises BadModel when the reconstruction has another shape than the images or is far outside [0, 1].
    """
    latents = autoencoder.encode(images.clone())  # copies, which the user's code may change
    decoded = autoencoder.decode(latents.clone())
    if tuple(decoded.shape) != tuple(images.shape):
        raise BadModel(
            f"The autoencoder turned images of shape {tuple(images.shape)} into {tuple(decoded.shape)}; expected the "
            "same shape: give images of the size it was made for (--size, or an attribute `size` on the autoencoder)."
        )
    low, high = (decoded.min().item(), decoded.max().item()) if decoded.numel() else (0.0, 1.0)
    if low < -0.25 or high > 1.25:
        raise BadModel(
            f"The autoencoder's images range from {low:.3g} to {high:.3g}; expected [0, 1]: let decode return values "
            "there, e.g. (x + 1) / 2 for a decoder that ends in tanh."
        )
    return latents, decoded.clamp(0, 1)


def decode(latents: Tensor, autoencoder: Autoencoder) -> Tensor:
    """D(z), clipped to [0, 1]."""
    return autoencoder.decode(latents.clone()).clamp(0, 1)


def shifted(latents: Tensor, directions: Tensor, distance: Floats) -> Tensor:
    """z0 + distance · direction, row by row."""
    steps = torch.as_tensor(distance, dtype=latents.dtype, device=latents.device)
    return latents + steps.view(-1, *[1] * (latents.ndim - 1)) * directions


def image_change(before: Tensor, after: Tensor) -> Tensor:
    """Σ|before − after| / Σ|before| per image, [n]."""
    total = before.abs().flatten(1).sum(dim=1).clamp_min(1e-12)
    return (before - after).abs().flatten(1).sum(dim=1) / total


def check_images(images: Tensor) -> None:
    """BadInput for images of another shape, type or range than [n, c, h, w], floating, [0, 1]."""
    if images.ndim != 4:
        raise BadInput(f"Images must have shape [n, channel, height, width], got {tuple(images.shape)}.")
    if not images.is_floating_point():
        raise BadInput(f"Images must be floating, in [0, 1], got {images.dtype}; divide bytes by 255.")
    if images.numel() and not (images.min() >= -1e-3 and images.max() <= 1 + 1e-3) and not images.isnan().any():
        raise BadInput(f"Images must be in [0, 1], got values from {images.min():.3g} to {images.max():.3g}.")


def float64(tensor: Tensor) -> Floats:
    result: Floats = tensor.detach().cpu().double().numpy()
    return result


def one_pair(base: Composition) -> Pairs:
    """The pair of a single image and a base."""
    return Pairs(torch.zeros(1, dtype=torch.int64), weights([base], base.classifiers))


@torch.no_grad()
def along(
    latent: Tensor, direction: Tensor, distances: Floats, *, panel: Panel, autoencoder: Autoencoder, batch: int = 64
) -> tuple[Tensor, Floats]:
    """Images [step, c, h, w] and panel scores [step, column] at some distances on one ray.

    ``latent`` z0 and ``direction`` are [1, *latent].
    """
    points = shifted(latent.expand(len(distances), *latent.shape[1:]), direction, distances)
    images = torch.cat([decode(part, autoencoder) for part in torch.split(points, batch)])
    return images, panel.scores(respond(images, panel.classifiers, batch=batch))
