"""Faces as numbers, and drawing them with wanted label correlations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cfalign._errors import BadInput
from cfalign.synthetic.factors import ATTRIBUTES, DERIVED, FACTORS, GAP, HAIR_COLOURS, attribute_values, unknown_name

NUISANCE: tuple[str, ...] = (
    "shift_x",
    "shift_y",
    "scale",
    "roll",
    "yaw",
    "light_angle",
    "light_strength",
    "brightness",
    "skin_tone",
    "background_hue",
    "background_tone",
    "clothes_hue",
    "hat_hue",
    "tie_hue",
    "iris_hue",
    "parting_side",
)
"""What varies but carries no label, in the column order of `Faces.nuisance`; each uniform in [0, 1]."""

SOFT_SLOPE = 7.0
DERIVED_GAP = 0.05
"""Derived values keep this distance from their threshold where that is possible within `REDRAWS` tries."""
REDRAWS = 8


@dataclass(frozen=True)
class Faces:
    """Everything the renderer needs: equal faces give equal pixels.

    `factors` are in [0, 1] in the order of `FACTORS`; `hair` holds weights that sum to one, in the order of
    `HAIR_COLOURS`; `nuisance` is in [0, 1] in the order of `NUISANCE`; `noise` seeds each pixel noise.
    """

    factors: Float[Tensor, "face factor"]
    hair: Float[Tensor, "face colour"]
    nuisance: Float[Tensor, "face nuisance"]
    noise: Int64[Tensor, " face"]

    def __len__(self) -> int:
        return int(self.factors.shape[0])

    def __repr__(self) -> str:
        return "Faces(1 face)" if len(self) == 1 else f"Faces({len(self)} faces)"

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Faces:
        """The faces at `index` (integer, slice, list, index or mask tensor); an integer gives one face."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"face {index} of {len(self)}")
            index = [index % len(self)]
        elif not isinstance(index, (slice, Tensor)):
            index = torch.as_tensor(list(index), dtype=torch.long)
        return Faces(self.factors[index], self.hair[index], self.nuisance[index], self.noise[index])

    def values(self) -> Float[Tensor, "face attribute"]:
        """Continuous attribute values in the order of `ATTRIBUTES` (see `attribute_values`)."""
        return attribute_values(self.factors, self.hair)

    def labels(self) -> Float[Tensor, "face attribute"]:
        """Hard labels, 0 or 1, in the order of `ATTRIBUTES`."""
        return (self.values() > 0.5).float()

    def soft_labels(self) -> Float[Tensor, "face attribute"]:
        """Labels in (0, 1) that grow with the value: sigmoid(7 (value - 0.5))."""
        return torch.sigmoid(SOFT_SLOPE * (self.values() - 0.5))


def concatenate(parts: Sequence[Faces]) -> Faces:
    """All faces of `parts` in order. Raises `BadInput` when there is no part."""
    if not parts:
        raise BadInput("Expected at least one set of faces to concatenate, got none.")
    return Faces(
        torch.cat([part.factors for part in parts]),
        torch.cat([part.hair for part in parts]),
        torch.cat([part.nuisance for part in parts]),
        torch.cat([part.noise for part in parts]),
    )


def sample(n: int, *, seed: int, correlations: Mapping[tuple[str, str], float] | None = None) -> Faces:
    """Draw `n` faces; every factor is on with probability one half, every hair colour with one quarter.

    `correlations` maps pairs of names to the wanted correlation (phi) of their hard labels; pairs not
    named stay uncorrelated. Two factors take any phi in [-1, 1]; a factor and a hair colour at most about
    0.5 in size, and the other colours then share the opposite correlation. Raises `BadInput` for unknown,
    derived or repeated names, for two hair colours, and for correlations that cannot hold together.
    """
    if n < 0:
        raise BadInput(f"Expected a number of faces of at least 0, got {n}.")
    generator = torch.Generator().manual_seed(seed)
    root = _root(_gaussian_correlations(correlations or {}))
    gaussians = torch.randn(n, len(_LATENTS), generator=generator)
    strength = 1 - torch.rand(n, generator=generator) * (0.5 - GAP)
    nuisance = torch.rand(n, len(NUISANCE), generator=generator)
    noise = torch.randint(0, 2**53, (n,), generator=generator)
    gaussians = gaussians @ root.T
    hair = _hair_weights(gaussians[:, len(FACTORS) :], strength)
    factors = _factor_values(gaussians[:, : len(FACTORS)] > 0, hair, generator)
    return Faces(factors, hair, nuisance, noise)


def _factor_values(on: Tensor, hair: Tensor, generator: torch.Generator) -> Tensor:
    """Values on the wanted side of the gap.

    Those of a face whose derived labels are a near thing are drawn anew: derived labels become as visible
    as the rest; which factors are on stays as it was.
    """
    factors = torch.empty(on.shape)
    unclear = torch.ones(len(on), dtype=torch.bool)
    derived = [ATTRIBUTES.index(name) for name in DERIVED]
    for _ in range(REDRAWS):
        magnitude = torch.rand(on.shape, generator=generator) * (0.5 - GAP)
        factors = torch.where(unclear[:, None], torch.where(on, 1 - magnitude, magnitude), factors)
        distance = (attribute_values(factors, hair)[:, derived] - 0.5).abs()
        unclear = (distance < DERIVED_GAP).any(dim=1)
    return factors


def _hair_weights(scores: Tensor, strength: Tensor) -> Tensor:
    """The best-scored colour gets `strength` (at least 0.7), the runner-up the rest."""
    order = scores.argsort(dim=1, descending=True)
    weights = torch.zeros_like(scores)
    weights.scatter_(1, order[:, :1], strength[:, None])
    return weights.scatter(1, order[:, 1:2], 1 - strength[:, None])


_LATENTS: tuple[str, ...] = FACTORS + HAIR_COLOURS


def _gaussian_correlations(correlations: Mapping[tuple[str, str], float]) -> Tensor:
    """The correlation matrix of the copula's Gaussians that gives the wanted label correlations."""
    matrix = torch.eye(len(_LATENTS), dtype=torch.float64)
    seen: set[frozenset[str]] = set()
    for (first, second), phi in correlations.items():
        for name in (first, second):
            if name in DERIVED:
                causes = ", ".join(DERIVED[name])
                raise BadInput(f"{name!r} is derived; correlate its factors instead: {causes}.")
            if name not in _LATENTS:
                raise unknown_name(name, _LATENTS)
        pair = frozenset((first, second))
        if len(pair) == 1 or pair in seen:
            raise BadInput(f"The pair ({first}, {second}) repeats a name or an earlier pair.")
        seen.add(pair)
        if not -1 <= phi <= 1:
            raise BadInput(f"Expected a correlation in [-1, 1] for ({first}, {second}), got {phi}.")
        i, j = _LATENTS.index(first), _LATENTS.index(second)
        matrix[i, j] = matrix[j, i] = _gaussian_correlation(first, second, float(phi))
    return matrix


def _gaussian_correlation(first: str, second: str, phi: float) -> float:
    colours = [name for name in (first, second) if name in HAIR_COLOURS]
    if len(colours) == 2:
        raise BadInput(f"{first} and {second} exclude each other, so their correlation cannot be chosen.")
    return _hair_correlation(colours[0], phi) if colours else math.sin(math.pi / 2 * phi)


def _hair_correlation(colour: str, phi: float) -> float:
    """Gaussian correlation r for which P(colour wins, factor on) gives `phi`; found by bisection."""
    t = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    wins = torch.exp(-t * t / 2) / math.sqrt(2 * math.pi) * torch.special.ndtr(t) ** 3

    def label_correlation(r: float) -> float:
        on = torch.special.ndtr(r * t / math.sqrt(1 - r * r))
        joint = float(torch.trapezoid(wins * on, t))
        return (joint - 0.125) / (0.5 * math.sqrt(0.25 * 0.75))

    low, high = 0.0, 0.9999
    if abs(phi) > label_correlation(high):
        limit = math.floor(label_correlation(high) * 100) / 100
        raise BadInput(f"The correlation of {colour} with a factor can reach {limit} in size, got {phi}.")
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if label_correlation(middle) < abs(phi) else (low, middle)
    return math.copysign((low + high) / 2, phi)


def _root(matrix: Tensor) -> Tensor:
    """A square root of a correlation matrix (the identity stays the identity); `BadInput` if it has none."""
    values, vectors = torch.linalg.eigh(matrix)
    if float(values.min()) < -1e-7:
        raise BadInput(
            "The requested correlations cannot hold together (their matrix is not positive semi-definite); "
            "lower the strongest ones or drop a pair of the chain."
        )
    root: Tensor = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    return root.float()
