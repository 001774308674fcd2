"""Measures of the quality of counterfactuals: those of DiME and ACE, true edits, and distances between image sets.

Weights [draw, row] say how often each row counts: ones give the estimate, bootstrap counts its distribution.
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
    the absolute change) first. p_t is the score of the original prediction on the t-th composite: here the head's
    probability, because the prediction was positive. COUT = AUPC(1 − p) − AUPC(p), where
    AUPC(c) = (1/T) Σ_{t<T} ½ (c_t + c_{t+1}).
    ``score``: maps images [n, c, h, w] in [0, 1] to probabilities [n].
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
    """CD of DiME (Jeanneret et al. 2022), [draw]; lower is better: Σ_a |corr(δ_q, δ_a) − corr(y_q, y_a)|.

    ``change`` [n, attribute]: δ, the ``flips`` of the oracle; ``own``: column of the query q; ``correlations``
    [attribute]: correlations of the labels y with y_q in the data. A correlation without variance counts as 0, as in
    the authors' code: a query that flips in every image or in none has correlations of 0.
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

    The distance grows as rows get fewer: compare only sets of equal size. NaN with fewer than two rows.
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
    """Share of a true edit that a change makes, ⟨change, edit⟩ / ‖edit‖², 1 for all of it; and their cosine; both [n].

    NaN where the edit is invisible (mean square below 1e-5).
    """
    a, b = (v.detach().flatten(1).double() for v in (change, edit))
    inner, size = (a * b).sum(dim=1), (b * b).sum(dim=1)
    seen = size / b.shape[1] > 1e-5
    share = torch.where(seen, inner / size, torch.nan)
    cosine = torch.where(seen & (a.norm(dim=1) > 0), inner / (a.norm(dim=1) * b.norm(dim=1)), torch.nan)
    return share.cpu().numpy(), cosine.cpu().numpy()


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Weighted mean [draw] of the values [n] that are finite, by weights [draw, n]; NaN without any."""
    known = np.isfinite(values)
    count = weights[:, known].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 0, weights[:, known] @ values[known] / count, np.nan)
