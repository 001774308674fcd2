"""The direction of every pair: −∂value/∂z at z0 (Eq. 1), by one backward pass, or estimated for a black box.

For a head the gradient of the logit has the same direction as that of the probability and never underflows, so it is
taken there. A black box has no gradient: central differences along orthonormal random directions stand in for it. As
many directions as the latent has dimensions give the gradient itself, up to curvature; fewer give its projection, whose
cosine with the gradient is about √(directions / dimensions). Two forwards per direction, whatever the number of heads.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from cfalign._analysis.statistics import generator
from cfalign._counterfactuals.batch import Batch, Flags, Points, Rows, evaluate, float64
from cfalign._counterfactuals.options import MOST, EstimateOptions
from cfalign._counterfactuals.origin_gradients import at_origins
from cfalign._errors import BadInput
from cfalign._results import Floats


@dataclass(frozen=True)
class Start:
    """Where every pair starts, each [pair]."""

    value: Floats
    """What is descended: the logit of a head or logit composition, the score of a composition on probabilities."""
    slope: Floats
    """‖∂value/∂z‖ at z0."""
    on_logit: Flags
    """Whether the score is sigmoid(value) or value itself."""
    norm: Floats
    """‖z0‖."""
    reach: Floats | None = None
    """Distance at which the ray ends; None for one without an end."""

    def some(self, rows: Rows) -> Start:
        """Some of the pairs."""
        reach = None if self.reach is None else self.reach[rows]
        return Start(self.value[rows], self.slope[rows], self.on_logit[rows], self.norm[rows], reach)

    def score(self, value: Floats, rows: Rows | slice = slice(None)) -> Floats:
        """Scores of values that belong to ``rows``."""
        return np.where(self.on_logit[rows], expit(value), value)

    def score_slope(self) -> Floats:
        """‖∂score/∂z‖ at z0; λ times this is the latent distance. Zero where the sigmoid is saturated in float64."""
        return self.slope * np.where(self.on_logit, expit(self.value) * expit(-self.value), 1.0)


@dataclass(frozen=True)
class Rays:
    """Start and unit direction of descent of every pair."""

    start: Start
    direction: Tensor
    """−∂value/∂z / ‖∂value/∂z‖, [pair, *latent]; zero where the gradient is."""
    backwards: int = 1
    """Backward passes that each direction took: 0 where it was estimated."""

    def some(self, rows: Rows) -> Rays:
        """Some of the pairs."""
        index = torch.from_numpy(rows).to(self.direction.device)
        return Rays(self.start.some(rows), self.direction[index], self.backwards)


def find_rays(batch: Batch, *, eligible: float | None = None) -> Rays:
    """Directions of steepest descent at z0 of every pair: one backward pass each, and one decoder forward per image.

    ``eligible``: pairs with a smaller score need none; theirs may be zero.

    Where a classifier is a black box its gradient is estimated, if ``batch.estimate`` allows it: ``evaluations``
    decoder forwards per image, whatever the number of bases. Raises BadInput otherwise.
    """
    black_boxes = [c for c in batch.models.classifiers if not c.differentiable]
    if black_boxes and not (batch.estimate and batch.estimate.enabled):
        raise BadInput(
            f"Classifier {black_boxes[0].name!r} is a black box: no gradient flows through it, so it cannot be a base. "
            "Audit it through a bank of a differentiable reference classifier instead (`cfalign bank`), or let its "
            "gradient be estimated (--estimate)."
        )
    if black_boxes and batch.estimate:
        return _estimated(batch, batch.estimate)
    value, gradient = at_origins(batch, eligible=eligible)
    return _rays(batch, value, gradient.flatten(1).double().norm(dim=1), gradient)


def _rays(batch: Batch, value: Tensor, slope: Tensor, gradient: Tensor) -> Rays:
    """Rays against a gradient [pair, *latent] of known length ``slope`` [pair]."""
    length = torch.where(slope > 0, slope, torch.ones_like(slope)).to(gradient)
    start = Start(
        value=float64(value),
        slope=float64(slope),
        on_logit=batch.pairs.weights.on_logit.numpy(),
        norm=float64(batch.latents.flatten(1).norm(dim=1)[batch.pairs.image.to(batch.latents.device)]),
    )
    return Rays(start, -gradient / length.view(-1, *[1] * (gradient.ndim - 1)))


@torch.no_grad()
def _estimated(batch: Batch, estimate: EstimateOptions) -> Rays:
    """As ``find_rays``, image by image: all pairs of an image share its probes."""
    latents, pairs = batch.latents, batch.pairs
    values, slopes = torch.zeros(2, len(pairs), dtype=torch.float64)
    gradients = torch.zeros(len(pairs), *latents.shape[1:], dtype=latents.dtype, device=latents.device)
    for image in pairs.image.unique().tolist():
        rows = (pairs.image == image).nonzero()[:, 0]
        value, slope, probes = differences(latents[image], _table(batch, image, rows), estimate)
        slope = torch.where(torch.isfinite(slope).all(dim=0), slope, torch.nan)
        gradient = slope.T.to(probes.dtype) @ probes.flatten(1)
        values[rows], slopes[rows] = value.double().cpu(), slope.norm(dim=0).cpu()
        gradients[rows.to(gradients.device)] = gradient.view(len(rows), *latents.shape[1:])
    return replace(_rays(batch, values, slopes, gradients), backwards=0)


def _table(batch: Batch, image: int, rows: Tensor) -> Callable[[Tensor], Tensor]:
    """Latents [n, *latent] of one image → values of its pairs [n, pair]."""

    def read(_: Tensor, answers: Tensor) -> Tensor:
        columns = [batch.pairs.weights[row.expand(len(answers))].value(answers) for row in rows]
        return torch.stack(columns, dim=1)

    def values(latents: Tensor) -> Tensor:
        points = Points(latents, torch.full((len(latents),), image), batch.origins)
        return evaluate(points, models=batch.models, read=read, keep_images=False).values

    return values


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
    latent: Tensor, values_at: Callable[[Tensor], Tensor], options: EstimateOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Around one z0 [*latent]: values there [value], slopes [direction, value], directions [direction, *latent].

    ``values_at``: latents [n, *latent] → values [n, value]. The gradient of a value is Σ slope · direction.
    """
    probes = directions(latent, options)
    distance = options.step * float(latent.norm()) or options.step
    values = values_at(torch.cat([latent[None], latent + distance * probes, latent - distance * probes]))
    ahead, behind = values[1:].double().chunk(2)
    return values[0], (ahead - behind) / (2 * distance), probes
