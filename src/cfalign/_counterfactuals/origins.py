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
from cfalign._errors import BadInput, BadModel
from cfalign._models.autoencoding import decoded, encoded
from cfalign._models.components import Components
from cfalign._models.passes import in_passes
from cfalign._types import Autoencoder, MetricName, Residual

WINDOW = 1.5 / 64
"""Standard deviation of the Gaussian that weighs the surroundings of a pixel, as a share of the shorter side."""
EPSILON = 0.02
"""Contrast, of 1, below which there is no structure that could go."""


@dataclass(frozen=True)
class Origins:
    """Images before any walk."""

    latents: Tensor
    """z0 [image, *latent], where walks start."""
    images: Tensor
    """x0, where walks start, [image, c, h, w]: D(z0), or the image itself where its residual is kept."""
    drawn: Tensor
    """D(z0) [image, c, h, w]."""
    residual: Residual = "dropped"
    metric: Metric | None = None
    """Of the data: then ``latents`` are coordinates in it."""

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, rows: Tensor) -> Origins:
        """Some of the images."""
        latents, images, drawn = (t[rows.to(t.device)] for t in (self.latents, self.images, self.drawn))
        metric = None if self.metric is None else self.metric[rows]
        return Origins(latents, images, drawn, self.residual, metric)

    def in_pixels(self) -> Origins:
        """The same where every image is its own latent: nothing is left out of it."""
        return Origins(self.images, self.images, self.images)

    def decoded(self, rows: Tensor, latents: Tensor, autoencoder: Autoencoder) -> Tensor:
        """x of points [k, *latent] on the walks of the images ``rows`` [k], [k, c, h, w] in [0, 1]."""
        points = latents if self.metric is None else self.metric.points(rows, latents - self.latents[rows])
        return self.completed(rows, decode(points, autoencoder))

    def completed(self, rows: Tensor, drawn: Tensor) -> Tensor:
        """Images [k, c, h, w] of which the autoencoder drew ``drawn``, with the residuals of ``rows`` [k]."""
        if self.residual == "dropped":
            return drawn
        rows = rows.to(drawn.device)
        before = self.drawn[rows]
        left_out = self.images[rows] - before
        stays = 1 - gate(before, drawn.detach()) if self.residual == "gated" else 1.0
        return (drawn + stays * left_out).clamp(0, 1)


@dataclass(frozen=True)
class Metric:
    """The metric of the data: a walk moves where latents of images differ, and leaves all else of z0 as it was.

    z_λ = z0 − λ Σ ∂s/∂z, with Σ = W S² Wᵀ of the principal components of E(x): latent shift in the coordinates
    u = S⁻¹ Wᵀ (z − mean), in which λ has the unit that it has without.
    """

    components: Components
    origins: Tensor
    """z0 [image, *latent]."""

    def __getitem__(self, rows: Tensor) -> Metric:
        return Metric(self.components, self.origins[rows.to(self.origins.device)])

    def points(self, rows: Tensor, away: Tensor) -> Tensor:
        """z [k, *latent] at distances ``away`` [k, component] from z0 of images ``rows`` [k]."""
        z0 = self.origins[rows.to(self.origins.device)]
        return z0 + self.components.away(away).view_as(z0)


def joined(parts: Sequence[Origins]) -> Origins:
    """All images of several, which are treated alike."""
    latents, images, drawn = (torch.cat([getattr(p, name) for p in parts]) for name in ("latents", "images", "drawn"))
    metrics = [part.metric for part in parts if part.metric is not None]
    metric = Metric(metrics[0].components, torch.cat([m.origins for m in metrics])) if metrics else None
    return Origins(latents, images, drawn, parts[0].residual, metric)


def gate(before: Tensor, after: Tensor) -> Tensor:
    """m [k, 1, h, w], the share of the residual that goes where ``before`` is drawn as ``after``, [k, c, h, w] each."""
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
    """The search with what it leaves to the autoencoder: what becomes of residuals, and the metric.

    The metric is that of the data for an autoencoder that knows one (``autoencoders.informed``).
    """
    residual = search.residual or getattr(autoencoder, "residual", None) or "gated"
    known: MetricName = "latent" if getattr(autoencoder, "metric", None) is None else "data"
    return replace(search, residual=residual, metric=search.metric or known)


@torch.no_grad()
def origins(images: Tensor, autoencoder: Autoencoder, *, search: SearchOptions, batch: int = 64) -> Origins:
    """Where walks of images [n, c, h, w] start. Raises BadModel as ``reconstruct``."""
    search = settled(search, autoencoder)
    residual = search.residual
    assert residual is not None
    latents, drawn = reconstruct(images, autoencoder, batch=batch)
    start = drawn if residual == "dropped" else images
    if search.metric == "latent":
        return Origins(latents, start, drawn, residual)
    components = metric_of(autoencoder).to(latents)
    return Origins(components.coordinates(latents), start, drawn, residual, Metric(components, latents))


def metric_of(autoencoder: Autoencoder) -> Components:
    """The principal components of latents that an autoencoder knows. Raises BadInput where it knows none."""
    found: Components | None = getattr(autoencoder, "metric", None)
    if found is None:
        name = getattr(autoencoder, "name", type(autoencoder).__name__)
        raise BadInput(
            f"The metric of the data needs to know how latents differ, which autoencoder {name!r} does not: let images "
            'tell it (autoencoders.informed), or walk in the metric of the latent (search.metric = "latent").'
        )
    return found


@torch.no_grad()
def reconstruct(images: Tensor, autoencoder: Autoencoder, *, batch: int = 64) -> tuple[Tensor, Tensor]:
    """z0 = E(x) and D(z0) of images [n, c, h, w], ``batch`` at a time.

    Raises BadModel when the reconstruction has another shape than the images or is far outside [0, 1], and as
    ``in_passes``.
    """
    parts = in_passes(lambda rows: _reconstructed(images[rows], autoencoder), len(images), most=batch)
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
