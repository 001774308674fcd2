"""Images with the (image, base) pairs to be walked, and the one place where latents become images and scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfalign._counterfactuals.options import EstimateOptions
from cfalign._counterfactuals.origins import Origins
from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import Composition
from cfalign._heads.panel import Weights, weights
from cfalign._heads.scoring import logits
from cfalign._models.passes import Kind, in_passes
from cfalign._results import Floats
from cfalign._types import Autoencoder, Classifier

Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]
_PART = 32  # images that are compared at once: they and what is computed of them stay in the cache
Read = Callable[[Tensor, Tensor], Tensor]
"""(rows [part] int64, their logits [part, head]) → values [part, ...]."""


@dataclass(frozen=True)
class Models:
    """What decodes, and who scores."""

    autoencoder: Autoencoder
    classifiers: Sequence[Classifier]
    batch: int = 64
    """Points per pass, at most; fewer where memory does not hold them."""


@dataclass(frozen=True)
class Pairs:
    """(image, base) pairs."""

    image: Tensor
    """[pair] int64: row of the image in its batch."""
    weights: Weights
    """[pair] rows: the base of each pair."""

    def __len__(self) -> int:
        return len(self.image)

    def some(self, rows: Rows) -> Pairs:
        """Some of the pairs."""
        index = torch.from_numpy(rows)
        return Pairs(self.image[index], self.weights[index])


@dataclass(frozen=True)
class Batch:
    """Images before any walk, and the pairs of them that are to be walked."""

    origins: Origins
    pairs: Pairs
    models: Models
    estimate: EstimateOptions | None = None
    """How the gradient of a black box is found; the method ``latent-shift`` alone can."""

    @property
    def latents(self) -> Tensor:
        """z0 [image, *latent]."""
        return self.origins.latents

    @property
    def origin(self) -> Tensor:
        """z0 of every pair, [pair, *latent]."""
        return self.latents[self.pairs.image.to(self.latents.device)]

    @property
    def before(self) -> Tensor:
        """x0 of every pair, [pair, c, h, w]."""
        return self.origins.images[self.pairs.image.to(self.origins.images.device)]

    def some(self, rows: Rows) -> Batch:
        """Some of the pairs."""
        return replace(self, pairs=self.pairs.some(rows))

    def in_pixels(self) -> Batch:
        """The same pairs where every image is its own latent: the autoencoder is left out."""
        return replace(self, origins=self.origins.in_pixels(), models=replace(self.models, autoencoder=PixelSpace()))

    def project(self, points: Tensor) -> Tensor:
        """The nearest points that may be decoded: in pixels those in [0, 1]."""
        return points.clamp(0, 1) if isinstance(self.models.autoencoder, PixelSpace) else points

    def evaluate(self, rows: Rows, points: Tensor, *, gradient: bool = False) -> Evaluated:
        """``evaluate`` for pairs [k] at points [k, *latent]: the value of each pair's own base, [k]."""
        if not len(rows):
            return Evaluated(points.new_zeros(0), self.origins.images[:0], points[:0])
        index = torch.from_numpy(rows)

        def value(part: Tensor, answers: Tensor) -> Tensor:
            return self.pairs.weights[index[part]].value(answers)

        points_of = Points(points, self.pairs.image[index], self.origins)
        return evaluate(points_of, models=self.models, read=value, gradient=gradient, even=not gradient)

    def answered(self, rows: Rows, points: Tensor) -> tuple[Evaluated, Tensor]:
        """As ``evaluate``, with the logits of all heads of the models, [k, head]."""
        index = torch.from_numpy(rows)

        def read(part: Tensor, answers: Tensor) -> Tensor:
            value = self.pairs.weights[index[part]].value(answers)
            return torch.cat([value[:, None], answers], dim=1)

        points_of = Points(points, self.pairs.image[index], self.origins)
        seen = evaluate(points_of, models=self.models, read=read, even=True)
        return replace(seen, values=seen.values[:, 0]), seen.values[:, 1:]

    def points(self, latents: Tensor, *, each: int = 1) -> Points:
        """``each`` points of every pair, pair by pair, [pair · each, *latent]."""
        return Points(latents, self.pairs.image.repeat_interleave(each), self.origins)

    def image_change(self, rows: Rows, images: Tensor) -> Floats:
        """Σ|x0 − x| / Σ|x0| of pairs [k] whose images are now [k, c, h, w], [k]."""
        owner = self.pairs.image[torch.from_numpy(rows)].to(images.device)
        parts = zip(owner.split(_PART), images.split(_PART), strict=True)
        return float64(torch.cat([image_change(self.origins.images[some], part) for some, part in parts]))


@dataclass(frozen=True)
class Points:
    """Points of the latent space on the walks of some images."""

    latents: Tensor
    """z [k, *latent]."""
    image: Tensor
    """[k] int64: rows of ``origins``."""
    origins: Origins

    def __len__(self) -> int:
        return len(self.latents)

    def images(self, rows: Tensor, latents: Tensor, autoencoder: Autoencoder) -> Tensor:
        """x of points ``rows`` [part], whose latents are given again, [part, c, h, w] in [0, 1]."""
        return self.origins.decoded(self.image[rows], latents, autoencoder)


class PixelSpace:
    """An autoencoder that does nothing."""

    def encode(self, images: Tensor, /) -> Tensor:
        """The images."""
        return images

    def decode(self, latents: Tensor, /) -> Tensor:
        """The latents."""
        return latents


@dataclass(frozen=True)
class Evaluated:
    """Points in latent space, decoded and scored, [k, ...]."""

    values: Tensor
    """What ``read`` made of the logits, [k, ...]."""
    images: Tensor
    """x [k, c, h, w] in [0, 1]; no rows where they were not to be kept."""
    gradients: Tensor
    """∂value/∂z [k, *latent]; no rows where it was not asked for."""


def evaluate(
    points: Points,
    *,
    models: Models,
    read: Read,
    keep_images: bool = True,
    gradient: bool = False,
    even: bool = False,
) -> Evaluated:
    """Decode and score points [k]: one decoder forward and one pass of every classifier for each.

    ``read``: what is kept of the logits. ``gradient``: also ∂value/∂z, for one more backward pass; ``read`` then gives
    one value per point. ``even``: in passes of nearly equal size, for points that grow fewer from call to call; else
    every pass but the last is full. Raises BadModel where no gradient flows, and as ``in_passes``.
    """

    def work(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        return _evaluated(points, torch.arange(rows.start, rows.stop), models, read, keep_images, gradient)

    kind: Kind = "gradient" if gradient else "forward"
    parts = in_passes(work, len(points), most=models.batch, kind=kind, even=even)
    values, images, gradients = (torch.cat([part[i] for part in parts]) for i in range(3))
    return Evaluated(values, images, gradients)


def every_logit(_: Tensor, answers: Tensor) -> Tensor:
    """What ``evaluate`` reads for a panel: all logits, [part, head]."""
    return answers


def _evaluated(
    points: Points, rows: Tensor, models: Models, read: Read, keep_images: bool, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    z = points.latents[rows.to(points.latents.device)].detach().requires_grad_(gradient)
    with torch.set_grad_enabled(gradient):
        images = points.images(rows, z, models.autoencoder)
        value = read(rows, logits(images, models.classifiers))
    slope = gradient_at(value, z) if gradient else z[:0]
    return value.detach(), images.detach() if keep_images else images[:0].detach(), slope


def gradient_at(value: Tensor, z: Tensor, *, again: bool = False) -> Tensor:
    """Σ ∂value/∂z. ``again``: another gradient of what led to the values follows. Raises BadModel where none flows."""
    flows, one = value.requires_grad, torch.ones_like(value)
    (gradient,) = torch.autograd.grad(value, z, one, allow_unused=True, retain_graph=again) if flows else (None,)
    if gradient is None:
        raise BadModel(
            "No gradient flows from the classifier's logits to the latent: the classifier or the autoencoder's decode "
            "detaches its input (torch.no_grad, .detach(), NumPy)."
        )
    return gradient


def shifted(latents: Tensor, directions: Tensor, distance: Floats) -> Tensor:
    """z0 + distance · direction, row by row."""
    return latents + times(directions, distance)


def along(latents: Tensor, directions: Tensor, distances: Floats) -> Tensor:
    """Points at distances [pair, step] along the ray of every pair, pair by pair, [pair · step, *latent].

    ``latents`` z0 and unit ``directions`` are [pair, *latent].
    """
    steps = distances.shape[1]
    starts, rays = (rows.repeat_interleave(steps, dim=0) for rows in (latents, directions))
    return shifted(starts, rays, distances.ravel())


def times(rows: Tensor, factors: Floats) -> Tensor:
    """Rows [k, ...] times factors [k]."""
    scale = torch.as_tensor(factors, dtype=rows.dtype, device=rows.device)
    return rows * scale.view(-1, *[1] * (rows.ndim - 1))


def norms(rows: Tensor) -> Floats:
    """Euclidean length of every row [k, ...], [k]."""
    return float64(rows.flatten(1).double().norm(dim=1))


def image_change(before: Tensor, after: Tensor) -> Tensor:
    """Σ|before − after| / Σ|before| per image, [n]."""
    total, change = (x.flatten(1).abs().sum(dim=1) for x in (before, before - after))
    return change / total.clamp_min(1e-12)


def pairs_of(*bases: Composition, count: int) -> Pairs:
    """The pairs of bases of the same classifiers with each of ``count`` images, base by base."""
    rows = torch.arange(len(bases)).repeat_interleave(count)
    return Pairs(torch.arange(count).repeat(len(bases)), weights(bases, bases[0].classifiers)[rows])


def check_images(images: Tensor) -> None:
    """Raises BadInput unless images have shape [n, c, h, w], a floating type and values in [0, 1]."""
    if images.ndim != 4:
        raise BadInput(f"Images must have shape [n, channel, height, width], got {tuple(images.shape)}.")
    if not images.is_floating_point():
        raise BadInput(f"Images must be floating, in [0, 1], got {images.dtype}; divide bytes by 255.")
    if images.numel() and not (images.min() >= -1e-3 and images.max() <= 1 + 1e-3) and not images.isnan().any():
        raise BadInput(f"Images must be in [0, 1], got values from {images.min():.3g} to {images.max():.3g}.")


def float64(tensor: Tensor) -> Floats:
    """The tensor as a NumPy array of float64 on the CPU."""
    result: Floats = tensor.detach().cpu().double().numpy()
    return result
