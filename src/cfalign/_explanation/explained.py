"""What is known of an explained image: its scores, and the walk of every base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cfalign._explanation.options import ExplainOptions
from cfalign._results import Floats, Outcome


@dataclass(frozen=True)
class ExplainedBase:
    """The walk of one base on one image; without a counterfactual every frame is x0."""

    base: str
    increased: bool
    """Whether the score was raised: z_λ = z0 + λ ∂s/∂z."""
    outcome: Outcome
    evaluations: int
    lambdas: Floats
    """λ of every frame [step], in units of the gradient of the score; NaN without a counterfactual, and for all
    methods but ``latent-shift``."""
    frames: Tensor
    """[step, c, h, w] in [0, 1]; the first is x0, the last the counterfactual. x0 is the image itself, or its
    reconstruction where the residual is dropped (``options.search.residual``)."""
    scores: Floats
    """[step, head]: scores of ``Explanation.heads`` on every frame."""
    base_scores: Floats
    """[step]"""
    psi: Mapping[str, float]
    """Relative change (Eq. 3) of every other head; NaN where the base moved less than ``min_base_change``."""
    image_change: float
    """Σ|x0 − x_λ| / Σ|x0|."""
    difference: Tensor
    """Where the image changed, [h, w] ≥ 0, mean over channels; see ``ExplainOptions.difference``."""
    saliency: Mapping[str, Tensor]
    """By method, [h, w] ≥ 0, mean over channels of the absolute attributions."""


@dataclass(frozen=True)
class ExplainedImage:
    """One image and the walks of its bases."""

    name: str
    image: Tensor
    """x [c, h, w] in [0, 1]."""
    heads: tuple[str, ...]
    """The downstream heads, then the bases that are none of them."""
    image_scores: Floats
    """[head] on x itself: what the autoencoder alone changes is the step from here to x0; none where x0 is x."""
    bases: tuple[ExplainedBase, ...]
    options: ExplainOptions
