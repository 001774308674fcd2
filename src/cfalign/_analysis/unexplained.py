"""What known heads leave unexplained of another head, and the direction of the latent space in which it lies.

Two signs tell of a feature that no known head names. One is in what the head *answers*: the part of its logit that no
weighted sum of known logits gives, and the direction in which that part grows from image to image. The other is in
what the head *looks at*: the part of its slopes that is no sum of known slopes, and the direction that images share.
The first is a correlation, the second a cause; where a feature is used, both point the same way. Not in the paper.

NumPy float64 in and out. Coordinates are those of the metric of the data, in standard deviations, and the slopes of a
head say how its logit changes along each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cfalign._results import Floats

FOLDS = 5
GRID = np.logspace(-4, 4, 17)
"""Penalties that a regression chooses from, times the mean square of the design's singular values."""
RIDGE = 0.1
"""How freely known slopes, of length 1, may be combined to explain those of another head."""

Folds = NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """A ridge regression whose penalty cross-validation has chosen."""

    coefficients: Floats
    """[column]"""
    constant: float
    residual: Floats
    """Of every row under a fit that has not seen its fold, [row]."""
    unexplained: float
    """Σ residual² / Σ (response − mean)²; 1 for a response without variance."""

    def predict(self, design: Floats) -> Floats:
        """The response of rows [row, column]."""
        return np.asarray(design @ self.coefficients + self.constant)


def regression(design: Floats, response: Floats, folds: Folds) -> Fitted:
    """Response [row] on a design [row, column]; ``folds`` [row]: rows of one number are left out together."""
    left_out = np.zeros((len(GRID), len(response)))
    for fold in np.unique(folds):
        out = folds == fold
        slopes, constants = _ridge(design[~out], response[~out])
        left_out[:, out] = response[out] - (slopes @ design[out].T + constants[:, None])
    best = int(np.argmin((left_out**2).sum(axis=1)))
    slopes, constants = _ridge(design, response)
    spread = float(((response - response.mean()) ** 2).sum())
    share = float((left_out[best] ** 2).sum()) / spread if spread > 0 else 1.0
    return Fitted(slopes[best], float(constants[best]), left_out[best], share)


def _ridge(design: Floats, response: Floats) -> tuple[Floats, Floats]:
    """Coefficients [penalty, column] and constants [penalty], one of each for every penalty of ``GRID``."""
    centre, mean = design.mean(axis=0), response.mean()
    left, strength, right = np.linalg.svd(design - centre, full_matrices=False)
    penalties = GRID * max(float((strength**2).mean()), 1e-12)
    shrunk = strength / (strength**2 + penalties[:, None])
    slopes = (shrunk * (left.T @ (response - mean))) @ right
    return slopes, mean - slopes @ centre


def apart(slopes: Floats, known: Floats) -> Floats:
    """The part of each image's slopes [image, coordinate] that the known ones [image, head, coordinate] do not give."""
    lengths = np.linalg.norm(known, axis=2, keepdims=True)
    units = known / np.where(lengths > 0, lengths, 1.0)
    gram = units @ units.transpose(0, 2, 1) + RIDGE * np.eye(units.shape[1])
    shares = np.linalg.solve(gram, units @ slopes[..., None])
    return np.asarray(slopes - (shares.transpose(0, 2, 1) @ units)[:, 0])


def shared(slopes: Floats) -> Floats:
    """The unit direction that slopes [image, coordinate] share most, along which their mean rises, [coordinate]."""
    first: Floats = np.linalg.svd(slopes, full_matrices=False)[2][0]
    return first * (1.0 if (slopes @ first).mean() >= 0 else -1.0)


@dataclass(frozen=True)
class Sighting:
    """A direction along which a head changes for a reason that no known head names."""

    direction: Floats
    """[coordinate], of length 1; the head's score rises along it."""
    told: float
    """Share of the unexplained part of the logit that the direction of answers predicts on images left out."""
    agreement: float
    """Cosine between the direction of answers and that of looks."""


def sighted(coordinates: Floats, residual: Floats, rest: Floats, folds: Folds) -> Sighting:
    """The direction that answers and looks tell together.

    Args:
        coordinates: of the images [image, coordinate].
        residual: the unexplained part of their logits [image].
        rest: the unexplained part of slopes, of some images [k, coordinate].
        folds: [image], as for ``regression``.

    The direction of answers counts by its correlation with the residual on images left out, that of looks by what is
    missing to 1: a strong feature shows in answers, a weak one in looks alone.
    """
    fitted = regression(coordinates, residual, folds)
    told = min(1.0, max(0.0, 1 - fitted.unexplained))
    answers, looks, weight = _unit(fitted.coefficients), shared(rest), told**0.5
    return Sighting(_unit(weight * answers + (1 - weight) * looks), told, float(answers @ looks))


def _unit(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector
