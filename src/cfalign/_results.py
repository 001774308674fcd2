"""What the stages hand to one another and to the user: frozen, typed, without behaviour beyond reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


class Outcome(StrEnum):
    """Why the search for one counterfactual stopped."""

    REACHED = "reached"
    """The requested drop, within the tolerance."""
    FLOOR = "floor"
    """The start was too low for the requested drop; the floor score was met instead."""
    TURNED = "turned"
    """The score began to rise again, or would not fall further, before the drop was met."""
    IMAGE_LIMIT = "image_limit"
    """The image had changed as much as it was allowed to."""
    LAMBDA_LIMIT = "lambda_limit"
    """The bound on λ, on the latent distance, on evaluations or on steps came first."""
    FLAT = "flat"
    """The gradient is zero: there is no direction to walk in."""
    NOT_FINITE = "not_finite"
    """A score, gradient or image was NaN or infinite."""
    NOT_ELIGIBLE = "not_eligible"
    """The base does not predict this image positive, so no counterfactual is made."""

    @property
    def landed(self) -> bool:
        """Whether the search met what it aimed at."""
        return self in (Outcome.REACHED, Outcome.FLOOR)

    @property
    def walked(self) -> bool:
        """Whether there is a counterfactual image at all."""
        return self not in (Outcome.FLAT, Outcome.NOT_FINITE, Outcome.NOT_ELIGIBLE)


@dataclass(frozen=True)
class Counterfactuals:
    """One counterfactual per (image, base) pair, every pair present, in the order given.

    Pairs without a counterfactual (``not_eligible``, ``flat``, ``not_finite``) keep their reconstruction as image and
    have NaN ``lambdas``.
    """

    images: Tensor
    """x_λ [n, c, h, w] in [0, 1]."""
    reconstructions: Tensor
    """x0 = D(E(x)) [n, c, h, w]; x itself for the method ``pixels``."""
    lambdas: Floats
    """λ in units of the gradient of the base *score* (Eq. 1), ≥ 0; NaN where there is no counterfactual, and for every
    method but ``latent-shift``."""
    distances: Floats
    """‖z_λ − z_0‖; ‖x_λ − x0‖ for the method ``pixels``."""
    outcomes: tuple[Outcome, ...]
    evaluations: NDArray[np.int64]
    """Decoder forwards that the search spent."""
    base_before: Floats
    """Base score (a probability unless the base is a composition on probabilities) at x0."""
    base_after: Floats
    image_change: Floats
    """Σ|x0 − x_λ| / Σ|x0|."""
    backwards: NDArray[np.int64]
    """Backward passes through the decoder, each with a forward; that at z0 is not among the ``evaluations``."""

    def __len__(self) -> int:
        return len(self.outcomes)


@dataclass(frozen=True)
class Cell:
    """One (base, downstream) cell of the alignment matrix; a row of ``matrix.csv``. All NaN when n is 0."""

    base: str
    downstream: str
    psi: float
    """Mean over images of the relative change (Eq. 3)."""
    ratio_of_means: float
    """ΣΔdownstream / ΣΔbase."""
    median: float
    psi_logit: float
    """Mean relative change on standardised logits; NaN when a composition has no logit."""
    ci_low: float
    ci_high: float
    n: int
    """Images that the cell rests on."""
    excluded: int
    """Counterfactuals that do not count, e.g. |Δbase| below ``min_base_change``."""
    p: float
    q: float
    """Benjamini-Hochberg over all off-diagonal cells; NaN on the diagonal."""


@dataclass(frozen=True)
class Effect:
    """What changing one attribute does to one audited head; a row of ``effects.csv``."""

    audited: str
    attribute: str
    effect: float
    """Unmixed incoming alignment: change of the audited score per unit change of the attribute's reference head."""
    ci_low: float
    ci_high: float
    incoming: float
    """ΣΔaudited / ΣΔattribute over the counterfactuals of the attribute."""
    outgoing: float
    """Mean relative change of the attribute's head over the counterfactuals of the audited head; NaN without them."""
    n: int
    """Counterfactuals of the attribute that the incoming reading rests on."""
    q: float


def own_concept(audited: str, attribute: str) -> bool:
    """Whether the attribute is what the audited head is meant to see: the same target in another classifier."""
    return audited.rpartition(":")[2] == attribute.rpartition(":")[2]


@dataclass(frozen=True)
class GroupGap:
    """How differently an audited head answers images with an attribute and images without; a row of ``gaps.csv``.

    Undefined numbers are NaN: all but ``observed`` where no effect is known, all where a group is empty.
    """

    audited: str
    attribute: str
    gap: float
    """What the effects explain of the difference, but for the head's own concept: ``direct`` + ``indirect``."""
    ci_low: float
    ci_high: float
    direct: float
    """The attribute's own effect."""
    indirect: float
    """Through other attributes that the head uses and that go along with this one on these images."""
    observed: float
    """Mean score of the images with the attribute minus that of the others, whatever it comes from."""
    n_with: int
    n_without: int
    through: str
    """The largest parts of ``indirect``, such as ``wearing_lipstick +0.21; rosy_cheeks +0.05``."""


@dataclass(frozen=True)
class Sample:
    """One image behind a finding."""

    image_id: str
    base: str
    downstream: str
    psi: float
    base_before: float
    base_after: float
    downstream_before: float
    downstream_after: float
    files: Mapping[str, str]
    """``original``, ``reconstruction``, ``counterfactual``: paths relative to the run directory."""


@dataclass(frozen=True)
class Finding:
    """A relation worth a person's look."""

    rank: int
    audited: str
    attribute: str
    effect: float
    ci_low: float
    ci_high: float
    q: float
    incoming: float
    null: float
    """The incoming reading of the control: steps as long in random directions instead of the counterfactuals."""
    outgoing: float
    n: int
    samples: tuple[Sample, ...]
