"""Gradients in latent space without backward passes: central differences along orthonormal random directions.

As many directions as the latent has dimensions give the gradient itself, up to curvature; fewer give its projection,
whose cosine with the gradient is about √(directions / dimensions). Two forwards per direction, whatever the number of
heads.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cfalign.errors import BadInput
from cfalign.statistics import generator

MOST = 1024
"""Evaluations per image where the options name none."""


@dataclass(frozen=True)
class EstimateOptions:
    """Whether and how black boxes, through which no gradient flows, become bases."""

    enabled: bool = False
    evaluations: int | None = None
    """Decoder forwards and forward passes of the classifier per image, two per direction; by default twice the latent's
    dimensions, which is exact, and at most 1,024."""
    step: float = 0.05
    """Distance of a probe from z0, as a share of ‖z0‖: large enough for scores of few digits, small enough to be local.
    """
    seed: int = 0
    """Seed of the directions, which differ from image to image."""

    def __post_init__(self) -> None:
        if self.evaluations is not None and self.evaluations < 2:
            raise BadInput(f"estimate.evaluations must be at least 2, got {self.evaluations!r}.")
        if not 0 < self.step <= 1:
            raise BadInput(f"estimate.step must be above 0 and at most 1, got {self.step!r}.")
        if self.seed < 0:
            raise BadInput(f"estimate.seed must be at least 0, got {self.seed!r}.")


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
