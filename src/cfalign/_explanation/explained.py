"""What is known of an explained image: its scores, and the walk of every base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from cfalign._explanation.options import ExplainOptions
from cfalign._results import Floats, Outcome

MOVED = 0.05
"""Change of a score from which on shares of it are told."""


@dataclass(frozen=True)
class ExplainedRegions:
    """Where the changes of scores from x0 to the counterfactual lie. Regions work together, so there are two bounds."""

    names: tuple[str, ...]
    masks: Tensor
    """How far each pixel belongs to each region, [region, h, w] in [0, 1]."""
    whole: Floats
    """Change of every score of ``Explanation.heads``, [head]."""
    inside: Floats
    """Change of the score when nothing but the region changes, [head, region]."""
    lost: Floats
    """What is missing of the whole change when everything but the region changes, [head, region]."""

    @property
    def inside_shares(self) -> Floats:
        """``inside`` per whole change, [head, region]; NaN where that is less than 0.05."""
        return self.inside / self._moved

    @property
    def lost_shares(self) -> Floats:
        """``lost`` per whole change, [head, region]; NaN where that is less than 0.05."""
        return self.lost / self._moved

    @property
    def _moved(self) -> Floats:
        return np.where(np.abs(self.whole) >= MOVED, self.whole, np.nan)[:, None]

    def strongest(self, head: int) -> list[int]:
        """Numbers of the regions, that with the largest mean of both shares first; none where shares are NaN."""
        means = self.inside_shares[head] + self.lost_shares[head]
        return [] if np.isnan(means).any() else np.argsort(-means, kind="stable").tolist()


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
    regions: ExplainedRegions | None = None
    """Where the changes of all scores lie; None without ``ExplainOptions.regions``, and without a counterfactual."""

    def moved(self, heads: tuple[str, ...]) -> list[int]:
        """Numbers of the heads (``Explanation.heads``) whose scores changed by 0.05 or more: the base itself, then the
        others by |change|.
        """
        change = np.nan_to_num(self.scores[-1] - self.scores[0])
        others = [n for n in np.argsort(-np.abs(change), kind="stable").tolist() if heads[n] != self.base]
        return [n for n in (heads.index(self.base), *others) if abs(change[n]) >= MOVED]


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
