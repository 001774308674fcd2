"""The direction of every pair: −∂value/∂z at z0 (Eq. 1), by one backward pass, or estimated for a black box."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from cfalign._analysis.statistics import generator
from cfalign._counterfactuals.batch import Flags, Pairs, Rows, decode, float64
from cfalign._counterfactuals.options import MOST, EstimateOptions
from cfalign._errors import BadInput, BadModel
from cfalign._heads.scoring import logits
from cfalign._results import Floats
from cfalign._types import Autoencoder, Classifier


def directions(latent: Tensor, options: EstimateOptions) -> Tensor:
    """Orthonormal rows [direction, *latent] for one z0 [*latent], which depend on the seed and on z0 alone."""
    size = latent.numel()
    count = min(size, (options.evaluations or MOST) // 2)
    content = latent.detach().cpu().float().contiguous().numpy().tobytes()
    rng = generator(options.seed, "probes", str(zlib.crc32(content)))
    drawn = np.linalg.qr(rng.standard_normal((size, count)))[0].T
    return torch.from_numpy(np.ascontiguousarray(drawn)).to(latent).view(count, *latent.shape)


@torch.no_grad()
def differences(
    latent: Tensor, evaluate: Callable[[Tensor], Tensor], options: EstimateOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Around one z0 [*latent]: values there [value], slopes [direction, value], directions [direction, *latent].

    ``evaluate``: latents [n, *latent] → values [n, value]. The gradient of a value is Σ slope · direction.
    """
    rows = directions(latent, options)
    distance = options.step * float(latent.norm()) or options.step
    values = evaluate(torch.cat([latent[None], latent + distance * rows, latent - distance * rows]))
    ahead, behind = values[1:].double().chunk(2)
    return values[0], (ahead - behind) / (2 * distance), rows


@dataclass(frozen=True)
class Start:
    """Where every row starts, each [row]."""

    value: Floats
    """What is descended: the logit of a head or logit composition, the score of a composition on probabilities."""
    slope: Floats
    """‖∂value/∂z‖ at z0."""
    on_logit: Flags
    """Whether the score is sigmoid(value) or value itself."""
    norm: Floats
    """‖z0‖."""

    def score(self, value: Floats, rows: Rows | slice = slice(None)) -> Floats:
        """Scores of values that belong to ``rows``."""
        return np.where(self.on_logit[rows], expit(value), value)

    def score_slope(self) -> Floats:
        """‖∂score/∂z‖ at z0; λ times this is the latent distance."""
        return self.slope * np.where(self.on_logit, expit(self.value) * expit(-self.value), 1.0)


@dataclass(frozen=True)
class Rays:
    """Start and unit direction of descent of every pair."""

    start: Start
    direction: Tensor
    """−∂value/∂z / ‖∂value/∂z‖, [pair, *latent]; zero where the gradient is."""
    backwards: int = 1
    """Backward passes that each direction took: 0 where it was estimated."""


def find_rays(
    latents: Tensor,
    pairs: Pairs,
    *,
    autoencoder: Autoencoder,
    classifiers: Sequence[Classifier],
    estimate: EstimateOptions | None = None,
    batch: int = 64,
) -> Rays:
    """Directions of steepest descent at z0; one decoder forward and one backward per pair.

    ``latents``: z0 [image, *latent]. Where a classifier is a black box its gradient is estimated, if that is enabled:
    ``estimate.evaluations`` decoder forwards per image, whatever the number of bases. BadInput otherwise.
    """
    for classifier in classifiers:
        if not classifier.differentiable and not (estimate and estimate.enabled):
            raise BadInput(
                f"Classifier {classifier.name!r} is a black box: no gradient flows through it, so it cannot be a base. "
                "Audit it through a bank of a differentiable reference classifier instead (`cfalign bank`), or let its "
                "gradient be estimated (--estimate)."
            )
    if estimate and not all(classifier.differentiable for classifier in classifiers):
        return _estimated(latents, pairs, estimate, autoencoder, classifiers, batch)
    values, slopes, directions = [], [], []
    for rows in torch.arange(len(pairs)).split(batch):
        z = latents[pairs.image[rows].to(latents.device)].detach().requires_grad_(True)
        with torch.enable_grad():
            value = pairs.weights[rows].value(logits(decode(z, autoencoder), classifiers))
            if not value.requires_grad:
                raise BadModel(
                    "No gradient flows from the classifier's logits to the latent: the classifier or the autoencoder's "
                    "decode detaches its input (torch.no_grad, .detach(), NumPy)."
                )
            (gradient,) = torch.autograd.grad(value.sum(), z)
        norm = gradient.flatten(1).double().norm(dim=1)
        safe = torch.where(norm > 0, norm, torch.ones_like(norm)).to(gradient.dtype)
        directions.append(-gradient / safe.view(-1, *[1] * (gradient.ndim - 1)))
        values.append(value.detach())
        slopes.append(norm)
    return _rays(latents, pairs, values, slopes, directions)


def _rays(
    latents: Tensor, pairs: Pairs, values: Sequence[Tensor], slopes: Sequence[Tensor], directions: Sequence[Tensor]
) -> Rays:
    empty = latents.new_zeros(0)
    start = Start(
        value=float64(torch.cat([*values] or [empty])),
        slope=float64(torch.cat([*slopes] or [empty])),
        on_logit=pairs.weights.on_logit.numpy(),
        norm=float64(latents.flatten(1).norm(dim=1)[pairs.image.to(latents.device)]),
    )
    return Rays(start, torch.cat([*directions] or [latents[:0]]))


@torch.no_grad()
def _estimated(
    latents: Tensor,
    pairs: Pairs,
    estimate: EstimateOptions,
    autoencoder: Autoencoder,
    classifiers: Sequence[Classifier],
    batch: int,
) -> Rays:
    """As ``find_rays``, image by image: all pairs of an image share its probes."""
    values, slopes = torch.zeros(2, len(pairs), dtype=torch.float64)
    directions = torch.zeros(len(pairs), *latents.shape[1:], dtype=latents.dtype, device=latents.device)
    for image in pairs.image.unique().tolist():
        rows = (pairs.image == image).nonzero()[:, 0]

        def evaluate(points: Tensor, rows: Tensor = rows) -> Tensor:
            answers = torch.cat([logits(decode(p, autoencoder), classifiers) for p in points.split(batch)])
            table = [pairs.weights[row.expand(len(answers))].value(answers) for row in rows]
            return torch.stack(table, dim=1)

        value, slope, probes = differences(latents[image], evaluate, estimate)
        slope = torch.where(torch.isfinite(slope).all(dim=0), slope, torch.nan)
        gradient = slope.T.to(probes.dtype) @ probes.flatten(1)
        norm = slope.norm(dim=0)
        safe = torch.where(norm > 0, norm, torch.ones_like(norm)).to(gradient.dtype)
        values[rows], slopes[rows] = value.double().cpu(), norm.cpu()
        directions[rows.to(directions.device)] = (-gradient / safe[:, None]).view(len(rows), *latents.shape[1:])
    return replace(_rays(latents, pairs, [values], [slopes], [directions]), backwards=0)
