"""What makes a counterfactual good, as numbers: the measures of DiME and ACE, and distances between sets of images.

Weights [draw, row] are how often each row counts: a row of ones gives the estimate, bootstrap counts its spread.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cfalign._results import Floats


def cout(before: Tensor, after: Tensor, score: Callable[[Tensor], Tensor], *, steps: int = 50) -> Tensor:
    """Counterfactual transition (Khorram and Li 2022; ACE, Jeanneret et al. 2023), [n] in [−1, 1], higher is better.

    The pixels of ``after`` enter ``before`` in ``steps`` equal portions, those that changed most (Σ over channels of
    the absolute change) first. With p_t the score of what the explained head said before (here its probability, for it
    said yes) on the t-th composite, COUT = AUPC(1 − p) − AUPC(p), where AUPC(c) = (1/T) Σ_{t<T} ½ (c_t + c_{t+1}).
    ``score``: images [n, c, h, w] in [0, 1] to probabilities [n].
    """
    n, _, height, width = before.shape
    order = (after - before).abs().sum(dim=1).flatten(1).argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1).view(n, 1, height, width)
    ends = np.linspace(0, height * width, steps + 1).round().astype(int)
    curve = torch.stack([score(torch.where(rank < int(end), after, before)) for end in ends])
    area = (curve[:-1] + curve[1:]).mean(dim=0) / 2
    return 1 - 2 * area


def flips(before: Floats, after: Floats) -> Floats:
    """Change of the oracle's decisions, −1, 0 or 1, from probabilities [n, attribute] cut at 0.5."""
    return (after > 0.5).astype(np.float64) - (before > 0.5)


def correlation_difference(change: Floats, own: int, correlations: Floats, weights: Floats) -> Floats:
    """CD of DiME (Jeanneret et al. 2022), [draw], lower is better: Σ_a |corr(δ_q, δ_a) − corr(y_q, y_a)|.

    ``change`` [n, attribute]: δ, the ``flips`` of the oracle; ``own``: column of the query q; ``correlations``
    [attribute]: of the labels y of the data with y_q. A correlation without variance counts as 0, as theirs does: a
    query that flips in every image, or in none, is given no correlations at all.
    """
    total = weights.sum(axis=1, keepdims=True)
    mean, square = weights @ change / total, weights @ change**2 / total
    cross = weights @ (change * change[:, own : own + 1]) / total
    variance = np.clip(square - mean**2, 0, None)
    spread = np.sqrt(variance * variance[:, own : own + 1])
    covariance = cross - mean * mean[:, own : own + 1]
    correlation = np.where(spread > 1e-9, covariance / np.where(spread > 1e-9, spread, 1.0), 0.0)
    return np.asarray(np.abs(correlation - correlations).sum(axis=1))


def frechet_distance(one: Floats, other: Floats) -> float:
    """Fréchet distance of two Gaussians fitted to features [n, feature] (Heusel et al. 2017):

    ‖μ − μ'‖² + tr(Σ + Σ' − 2 (Σ^½ Σ' Σ^½)^½)

    Grows with fewer rows: compare sets of one size. NaN with fewer than two rows.
    """
    if min(len(one), len(other)) < 2:
        return float("nan")
    first, second = (np.cov(x, rowvar=False) for x in (one, other))
    root = _root(first)
    mixed = np.linalg.eigvalsh(root @ second @ root)
    shift = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()
    return float(shift + np.trace(first) + np.trace(second) - 2 * np.sqrt(np.clip(mixed, 0, None)).sum())


def _root(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


def along_edit(change: Tensor, edit: Tensor) -> tuple[Floats, Floats]:
    """How much of a true edit a change makes, [n]: ⟨change, edit⟩ / ‖edit‖², 1 where it is done; and their cosine.

    NaN where the edit is nothing to see (mean square below 1e-5).
    """
    a, b = (v.detach().flatten(1).double() for v in (change, edit))
    inner, size = (a * b).sum(dim=1), (b * b).sum(dim=1)
    seen = size / b.shape[1] > 1e-5
    share = torch.where(seen, inner / size, torch.nan)
    cosine = torch.where(seen & (a.norm(dim=1) > 0), inner / (a.norm(dim=1) * b.norm(dim=1)), torch.nan)
    return share.cpu().numpy(), cosine.cpu().numpy()


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Mean of the rows of values [n] that are not NaN, by weights [draw, n]; NaN without any."""
    known = np.isfinite(values)
    count = weights[:, known].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 0, weights[:, known] @ values[known] / count, np.nan)
