"""Uncertainty: bootstrap over images, permutation against a null measured on the same images, false discovery rate.

NumPy float64 in, NumPy float64 out; every random draw comes from the generator that is passed.
"""

from __future__ import annotations

import zlib

import numpy as np
from scipy.stats import false_discovery_control

from cfalign.results import Floats


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and on names, and on nothing that happened before."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def bootstrap_counts(n: int, *, resamples: int, rng: np.random.Generator) -> Floats:
    """How often each of n images is drawn in each resample, [resample, n]; rows sum to n."""
    return rng.multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(np.float64)


def percentile_interval(samples: Floats, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Percentile interval over the first axis; NaN samples are left out, all-NaN columns give NaN."""
    tail = 50 * (1 - level)
    known = ~np.isnan(samples).all(axis=0)
    low, high = np.full(samples.shape[1:], np.nan), np.full(samples.shape[1:], np.nan)
    if known.any():
        low[known], high[known] = np.nanpercentile(samples[:, known], [tail, 100 - tail], axis=0)
    return low, high


def exchange_signs(n: int, *, draws: int, rng: np.random.Generator) -> Floats:
    """−1 where a draw exchanges an image's counterfactual and its control, 1 where it does not, [draw, n]."""
    return np.where(rng.integers(0, 2, size=(draws, n)) == 1, 1.0, -1.0)


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
