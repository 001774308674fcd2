"""Uncertainty: bootstrap over images, permutation against a null measured on the same images, false discovery rate,
and sparse regression with intervals.

NumPy float64 in, NumPy float64 out; every random draw comes from the generator that is passed. ``people`` says which
images belong together, [image], as those of one person do: whatever is drawn is then drawn for all of them at once.
None: every image stands alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from scipy.stats import false_discovery_control, norm, rankdata, t

from cfalign._results import Floats

People: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]
"""A number for the group of each image, [image]; which numbers these are does not count, but their order does."""


HELD = 2**20
"""Numbers of random draws held at once."""


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and on names, and on nothing that happened before."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def bootstrap_counts(n: int, *, resamples: int, rng: np.random.Generator, people: People | None = None) -> Floats:
    """How often each of n images is drawn in each resample, [resample, n]; rows sum to n.

    With ``people``, these are drawn: an image counts as often as its person, and rows sum to n on average.
    """
    if people is not None:
        first, place = np.unique(people, return_inverse=True)
        return bootstrap_counts(len(first), resamples=resamples, rng=rng)[:, place]
    return rng.multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(np.float64)


def resampled_sums(
    values: Floats, *, resamples: int, rng: np.random.Generator, people: People | None = None
) -> tuple[Floats, Floats]:
    """Sums over the images of each resample, [resample, k] for values [image, k], and how many images these are.

    As ``bootstrap_counts`` draws, in the memory of a few resamples.
    """
    blocks: list[Floats] = []
    for some in blocks_of(resamples, len(values)):
        counts = bootstrap_counts(len(values), resamples=some, rng=rng, people=people)
        blocks.append(np.column_stack([counts @ values, counts.sum(axis=1)]))
    drawn = np.concatenate(blocks)
    return drawn[:, :-1], drawn[:, -1]


def resampled_interval(samples: Floats, point: Floats, people: People | None = None) -> tuple[Floats, Floats]:
    """95 % interval of ``point`` from its resamples over the first axis: between percentiles, and with ``people``
    ``widening`` times as far from the point.
    """
    low, high = percentile_interval(samples)
    if people is None:
        return low, high
    wider = widening(people)
    return point + wider * (low - point), point + wider * (high - point)


def widening(people: People) -> float:
    """How much further a 95 % interval must reach than its bootstrap over people does; NaN where there is but one.

    √(k / (k − 1)) · t / z: the spread between k people is understated by the one factor, and was estimated from k of
    them, hence Student's t with k − 1 degrees of freedom. k = (Σ n)² / Σ n² is the effective number of people with n
    images each (Kish), at least 2.
    """
    sizes = np.unique(people, return_counts=True)[1]
    if len(sizes) < 2:
        return float("nan")
    k = max(2.0, float(sizes.sum() ** 2 / (sizes**2).sum()))
    return float(np.sqrt(k / (k - 1)) * t.ppf(0.975, k - 1) / norm.ppf(0.975))


def variances_over_people(parts: Sequence[Floats], people: Sequence[People]) -> Floats:
    """Sampling variance of the sum of each part [image, number] over its images, [part, number]; a part has mean 0.

    What is summed within a person counts once (a sandwich of clusters), by the factor ``widening`` squared. Where
    people have images in several parts, these err together. Whoever weighs the parts by their variances, as if they
    were independent, would then rely on them too much, so all are multiplied by what the variance of the weighted mean
    is understated by. NaN where a part has one person only.
    """
    numbers, places = np.unique(np.concatenate(people), return_inverse=True)
    sums = np.zeros((len(parts), len(numbers), *parts[0].shape[1:]))
    ends = np.cumsum([len(part) for part in parts])
    for into, part, place in zip(sums, parts, np.split(places, ends[:-1]), strict=True):
        np.add.at(into, place, part)
    alone = (sums**2).sum(axis=1)
    weighted = sums / np.maximum(alone, 1e-30)[:, None]
    apart, together = (weighted**2).sum(axis=(0, 1)), (weighted.sum(axis=0) ** 2).sum(axis=0)
    understated = np.maximum(1.0, together / np.maximum(apart, 1e-30))
    wider = np.array([widening(who) for who in people])
    return np.asarray(understated * alone * wider[:, None] ** 2)


def percentile_interval(samples: Floats, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval over the first axis; NaN samples are left out, all-NaN columns give NaN."""
    tail = 50 * (1 - level)
    known = ~np.isnan(samples).all(axis=0)
    low, high = np.full(samples.shape[1:], np.nan), np.full(samples.shape[1:], np.nan)
    if known.any():
        some = samples[:, known]
        percentile = np.nanpercentile if np.isnan(some).any() else np.percentile  # the first is slow
        low[known], high[known] = percentile(some, [tail, 100 - tail], axis=0)
    return low, high


def exchange_signs(n: int, *, draws: int, rng: np.random.Generator, people: People | None = None) -> Floats:
    """−1 where a draw exchanges an image's counterfactual and its control, 1 where it does not, [draw, n].

    With ``people``, all images of a person have one sign.
    """
    if people is not None:
        first, place = np.unique(people, return_inverse=True)
        return exchange_signs(len(first), draws=draws, rng=rng)[:, place]
    return np.where(rng.integers(0, 2, size=(draws, n)) == 1, 1.0, -1.0)


def exchanged_sums(values: Floats, *, draws: int, rng: np.random.Generator, people: People | None = None) -> Floats:
    """Sums over the images of each draw, [draw, k] for differences [image, k] between counterfactual and control.

    As ``exchange_signs`` draws, in the memory of a few draws.
    """
    alone = np.arange(len(values))
    first, place = (alone, alone) if people is None else np.unique(people, return_inverse=True)
    return sums_of_parts([(place, values)], len(first), draws=draws, rng=rng)[0]


def sums_of_parts(
    parts: Sequence[tuple[People, Floats]], count: int, *, draws: int, rng: np.random.Generator
) -> list[Floats]:
    """Sums of every part after each draw of signs, which all parts share, [draw, k].

    ``parts``: (which of ``count`` signs each row has, differences [row, k]).
    """
    most = max([count, *(len(who) for who, _ in parts)])
    sums: list[list[Floats]] = [[] for _ in parts]
    for some in blocks_of(draws, most):
        signs = exchange_signs(count, draws=some, rng=rng)
        for found, (who, values) in zip(sums, parts, strict=True):
            found.append(signs[:, who] @ values)
    return [np.concatenate(found) for found in sums]


def blocks_of(draws: int, n: int) -> list[int]:
    """How many draws of n numbers each are held at once, one number for every block of draws."""
    size = max(1, HELD // max(1, n))
    return [min(size, draws - at) for at in range(0, draws, size)]


def exchange_p(observed: Floats, drawn: Floats) -> Floats:
    """Monte-Carlo p-values (1 + #{|drawn| ≥ |observed|}) / (1 + draws) over the first axis; NaN stays NaN."""
    hits = (np.abs(drawn) >= np.abs(observed) - 1e-12).sum(axis=0)
    return np.where(np.isnan(observed), np.nan, (1.0 + hits) / (1.0 + len(drawn)))


def q_values(p: Floats) -> Floats:
    """Benjamini-Hochberg over all entries that are not NaN, in the shape of ``p``."""
    q = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    if known.any():
        q[known] = false_discovery_control(p[known], method="bh")
    return q


def horseshoe(
    design: Floats,
    response: Floats,
    weight: Floats,
    *,
    noise: float,
    noise_weight: float,
    samples: int,
    streams: Sequence[np.random.Generator],
) -> Floats:
    """Posterior draws of the coefficients of sparse linear regressions, [sample, regression, coefficient].

    response = design · b + ε, ε ~ N(0, σ² / weight), under the horseshoe prior b_k ~ N(0, λ_k² τ²) with half-Cauchy λ_k
    and τ (Carvalho, Polson, Scott 2010): it shrinks small coefficients to almost nothing and leaves large ones alone.
    Gibbs sampling with inverse-gamma auxiliaries (Makalic, Schmidt 2016), a quarter more draws before as burn-in. σ²
    has the prior of ``noise_weight`` observations with standard deviation ``noise``. A column of zeros in the design
    takes no part: the other coefficients are as if it were not there.

    Args:
        design: [regression, row, coefficient].
        response, weight: [regression, row]; a row of weight 0 does not count.
        streams: one generator per regression, so that none depends on which others are solved beside it.
    """
    regressions, _, coefficients = design.shape
    total = samples + samples // 4
    shapes = (np.count_nonzero(weight, axis=1) + noise_weight) / 2
    chances = [_chance(s, total, coefficients, shape) for s, shape in zip(streams, shapes, strict=True)]
    normal, local, auxiliary, spread, spread_auxiliary, variance = (
        np.stack(parts, axis=1) for parts in zip(*chances, strict=True)
    )
    weighted = np.swapaxes(design * weight[..., None], -1, -2)
    gram, moment = weighted @ design, (weighted @ response[..., None])[..., 0]
    energy = (weight * response**2).sum(axis=1, keepdims=True)
    lambda2, nu = np.ones((2, regressions, coefficients))
    tau2, xi, sigma2 = np.full((regressions, 1), 0.01), np.ones((regressions, 1)), np.full((regressions, 1), noise**2)
    diagonal = np.arange(coefficients)
    drawn = np.empty((samples, regressions, coefficients))
    for i in range(total):
        precision = gram / sigma2[..., None]
        precision[:, diagonal, diagonal] += np.clip(1 / (lambda2 * tau2), 1e-12, 1e12)
        root = np.linalg.inv(np.linalg.cholesky(precision))
        b = (np.swapaxes(root, 1, 2) @ (root @ (moment / sigma2)[..., None] + normal[i][..., None]))[..., 0]
        lambda2 = (1 / nu + b**2 / (2 * tau2)) / local[i]
        nu = (1 + 1 / lambda2) / auxiliary[i]
        tau2 = (1 / xi + (b**2 / lambda2).sum(axis=1, keepdims=True) / 2) / spread[i]
        xi = (1 + 1 / tau2) / spread_auxiliary[i]
        fitted = (gram @ b[..., None])[..., 0]
        unexplained = energy + (b * (fitted - 2 * moment)).sum(axis=1, keepdims=True)
        sigma2 = (np.maximum(unexplained, 0) + noise_weight * noise**2) / 2 / variance[i]
        if i >= total - samples:
            drawn[i - total + samples] = b
    return drawn


def _chance(stream: np.random.Generator, total: int, coefficients: int, shape: float) -> tuple[Floats, ...]:
    """All that one regression's sampler draws: normal, λ², its auxiliary, τ², its auxiliary, σ², [sample, …] each.

    ``shape``: of the gamma distribution that 1 / σ² comes from.
    """
    return (
        stream.standard_normal((total, coefficients)),
        stream.standard_exponential((total, coefficients)),
        stream.standard_exponential((total, coefficients)),
        stream.standard_gamma((coefficients + 1) / 2, (total, 1)),
        stream.standard_exponential((total, 1)),
        stream.standard_gamma(shape, (total, 1)),
    )


def auroc(scores: Floats, labels: Floats) -> float:
    """Share of (positive, negative) pairs that the scores put in order, ties counting half.

    NaN labels do not count; NaN without a pair.
    """
    known = np.isfinite(labels)
    positive = labels[known] > 0.5
    p, n = int(positive.sum()), int((~positive).sum())
    if p == 0 or n == 0:
        return float("nan")
    ranks = rankdata(scores[known])
    return float((ranks[positive].sum() - p * (p + 1) / 2) / (p * n))


def weighted_auroc(scores: Floats, labels: Floats, weights: Floats) -> Floats:
    """AUROC for every row of ``weights`` [resample, image], how often each image counts.

    NaN where a class has no weight.
    """
    known = np.flatnonzero(np.isfinite(labels))
    order = known[np.argsort(scores[known], kind="stable")]
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
    starts = np.union1d(starts, [0])
    positive = labels[order] > 0.5
    ups = np.add.reduceat(weights[:, order] * positive, starts, axis=1)
    downs = np.add.reduceat(weights[:, order] * ~positive, starts, axis=1)
    below = np.cumsum(downs, axis=1) - downs / 2
    pairs = ups.sum(1) * downs.sum(1)
    result: Floats = np.where(pairs > 0, (ups * below).sum(1) / np.maximum(pairs, 1), np.nan)
    return result
