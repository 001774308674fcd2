"""Estimates from single counterfactuals: means of every measure and method, with bootstrap intervals over faces."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl

from cfalign._analysis.statistics import bootstrap_counts, generator, percentile_interval
from cfalign._results import Floats
from cfalign.benchmarks.counterfactuals.criteria import correlation_difference, frechet_distance, weighted_mean
from cfalign.benchmarks.counterfactuals.result import Comparison, Estimate

MEANS = {
    "validity": "landed",
    "drop": "drop",
    "l1": "l1",
    "l2": "l2",
    "latent_distance": "latent_distance",
    "encoded_distance": "encoded_distance",
    "others_changed": "others_changed",
    "mnac": "mnac",
    "cout": "cout",
    "cout_oracle": "cout_oracle",
    "adversarial": "adversarial",
    "oracle_drop": "oracle_drop",
    "removed": "removed",
    "edit_cosine": "edit_cosine",
    "forwards": "forwards",
    "backwards": "backwards",
    "off_validity": "off_landed",
    "off_drop": "off_drop",
    "off_oracle_drop": "off_oracle_drop",
    "off_removed": "off_removed",
    "off_edit_cosine": "off_edit_cosine",
    "off_l1": "off_l1",
    "off_forwards": "off_forwards",
    "off_backwards": "off_backwards",
}
"""Measure that is a mean over pairs → column of the parts that is averaged."""
OVER_ALL = ("landed", "off_landed")
"""Columns averaged over all pairs; the others are averaged over the pairs that landed."""
BY_HEAD = ("drop", "oracle_drop", "removed", "off_drop", "off_oracle_drop", "off_removed", "off_edit_cosine")
"""Columns whose means are reported for every head."""


@dataclass(frozen=True)
class Part:
    """One method on one head: a row per pair, and features [pair, feature] of the counterfactuals."""

    head: str
    rows: pl.DataFrame
    features: Floats

    @property
    def landed(self) -> pl.DataFrame:
        """The rows of pairs whose search landed."""
        return self.rows.filter(pl.col("landed") > 0)


@dataclass(frozen=True)
class SeenByOracle:
    """Features of the faces themselves: the input of the oracle's last layer."""

    images: Floats
    """[face, feature]"""
    reconstructions: Floats
    """[face, feature]"""


def compare(
    parts: Mapping[str, Sequence[Part]],
    correlations: Mapping[str, Floats],
    faces: SeenByOracle,
    drift: Mapping[str, Floats],
    *,
    seed: int,
    resamples: int,
) -> Comparison:
    """Estimates of every measure from the parts of every method.

    ``correlations``: by head, correlations of all labels with the head's own. ``drift``: by measure, drift of the
    autoencoder, [face]. All measures use the same draws of faces, so the comparison of methods is paired.
    """
    count = len(faces.images)
    counts = bootstrap_counts(count, resamples=resamples, rng=generator(seed, "counterfactuals"))
    draws = np.concatenate([np.ones((1, count)), counts])
    distances = _frechet(parts, faces, seed)
    seconds = _seconds(parts, resamples)
    methods = {}
    for method, mine in parts.items():
        own = {"frechet": distances[method], "seconds_ratio": seconds[method]}
        methods[method] = _estimates(mine, correlations, draws) | own
    beside = {name: _estimate(draws, partial(weighted_mean, values), count) for name, values in drift.items()}
    beside |= {name: distances[name] for name in ("frechet_real", "frechet_reconstruction")}
    return Comparison(methods, beside, {method: _by_head(mine) for method, mine in parts.items()}, seed)


def _estimate(draws: Floats, statistic: Callable[[Floats], Floats], n: int) -> Estimate:
    """``draws``: weights [draw, row]; the first row gives the estimate."""
    values = statistic(draws)
    low, high = percentile_interval(values[1:, None])
    return Estimate(float(values[0]), float(low[0]), float(high[0]), n)


def _estimates(parts: Sequence[Part], correlations: Mapping[str, Floats], draws: Floats) -> dict[str, Estimate]:
    rows = pl.concat([part.rows for part in parts])
    weights = draws[:, rows["face"].to_numpy()]
    estimates = {}
    for name, column in MEANS.items():
        values = _counted(rows, column)
        n = int(np.isfinite(values).sum())
        estimates[name] = _estimate(weights, partial(weighted_mean, values), n)
    landed = [part for part in parts if len(part.landed)]
    estimates["rank1"] = _estimate(draws, partial(_rank1, landed), len(landed))
    estimates["cd"] = _centred(_cd(landed, correlations, draws), len(landed))
    return estimates


def _counted(rows: pl.DataFrame, column: str) -> Floats:
    """A column with NaN where the pair does not count."""
    values = rows[column].to_numpy().astype(float)
    if column in OVER_ALL:
        return values
    landed = rows["off_landed" if column.startswith("off_") else "landed"].to_numpy() > 0
    return np.where(landed, values, np.nan)


def _centred(values: Floats, n: int) -> Estimate:
    """An estimate and its interval without the bootstrap's bias: resampling noise enlarges absolute differences."""
    low, high = percentile_interval(values[1:, None] - values[1:].mean() + values[0])
    return Estimate(float(values[0]), float(low[0]), float(high[0]), n)


def _columns(rows: pl.DataFrame, kind: str) -> tuple[list[str], Floats]:
    """Names and values [pair, attribute] of the columns ``kind.ATTRIBUTE``."""
    names = [column for column in rows.columns if column.startswith(f"{kind}.")]
    return [name.removeprefix(f"{kind}.") for name in names], rows.select(names).to_numpy()


def _rank1(parts: Sequence[Part], draws: Floats) -> Floats:
    """Share of heads whose own factor falls, and moves more than every other factor with a head of its own."""
    factors = [part.head for part in parts]
    hits = []
    for part in parts:
        names, change = _columns(part.landed, "change")
        weights = draws[:, part.landed["face"].to_numpy()]
        moved = weights @ change[:, [names.index(factor) for factor in factors]]
        own = factors.index(part.head)
        hits.append((np.abs(moved).argmax(axis=1) == own) & (moved[:, own] < 0))
    return np.asarray(np.mean(hits, axis=0)) if hits else np.full(len(draws), np.nan)


def _cd(parts: Sequence[Part], correlations: Mapping[str, Floats], draws: Floats) -> Floats:
    """Mean correlation difference over heads."""
    values = []
    for part in parts:
        names, flipped = _columns(part.landed, "flip")
        weights = draws[:, part.landed["face"].to_numpy()]
        own = names.index(part.head)
        with np.errstate(divide="ignore", invalid="ignore"):
            values.append(correlation_difference(flipped, own, correlations[part.head], weights))
    return np.asarray(np.nanmean(values, axis=0)) if values else np.full(len(draws), np.nan)


def _by_head(parts: Sequence[Part]) -> dict[str, dict[str, float]]:
    factors = [part.head for part in parts]
    return {part.head: _of_head(part, factors) for part in parts}


def _of_head(part: Part, factors: Sequence[str]) -> dict[str, float]:
    """Means over the pairs that landed, and the place of the head's own factor by what the oracle saw."""
    rows = part.landed
    names, change = _columns(rows, "change")
    moved = np.abs(change.mean(axis=0)) if len(rows) else np.full(len(names), np.nan)
    own = moved[names.index(part.head)]
    found: dict[str, float] = {
        "n": len(rows),
        "rank": 1 + int((moved[[names.index(factor) for factor in factors]] > own).sum()),
    }
    for name in BY_HEAD:
        found[name] = float(weighted_mean(rows[name].to_numpy(), np.ones((1, len(rows))))[0])
    for name in ("off_forwards", "off_backwards"):
        found[name] = float(rows[name].to_numpy().mean()) if len(rows) else math.nan
    return found


def _frechet(parts: Mapping[str, Sequence[Part]], faces: SeenByOracle, seed: int) -> dict[str, Estimate]:
    """Fréchet distances between features of one half of the faces and real images of the other half.

    Computed in both directions: the value is their mean, low and high are the two. By method; ``frechet_real`` and
    ``frechet_reconstruction`` use real images and reconstructions. Every face contributes one counterfactual, of the
    same head for all methods.
    """
    contributing = _contributing_heads(parts, seed)
    chosen = np.array(sorted(contributing), dtype=int)
    halves = chosen[::2], chosen[1::2]

    def both_ways(features: Floats) -> Estimate:
        """``features``: [face, feature], NaN for faces that contribute none."""
        ways = [frechet_distance(features[one], faces.images[other]) for one, other in (halves, halves[::-1])]
        return Estimate(float(np.mean(ways)), min(ways), max(ways), len(chosen))

    found = {"frechet_real": both_ways(faces.images), "frechet_reconstruction": both_ways(faces.reconstructions)}
    for method, mine in parts.items():
        table = np.full_like(faces.images, np.nan)
        for part in mine:
            for row, face in enumerate(part.rows["face"].to_list()):
                if contributing.get(int(face)) == part.head:
                    table[int(face)] = part.features[row]
        found[method] = both_ways(table)
    return found


def _contributing_heads(parts: Mapping[str, Sequence[Part]], seed: int) -> dict[int, str]:
    """Face → head whose counterfactual it contributes, drawn from the heads for which every method landed."""
    rng = generator(seed, "realism")
    landed = [{(part.head, face) for part in mine for face in part.landed["face"].to_list()} for mine in parts.values()]
    heads: dict[int, list[str]] = {}
    for head, face in sorted(set.intersection(*landed)) if landed else []:
        heads.setdefault(int(face), []).append(head)
    return {face: names[rng.integers(len(names))] for face, names in sorted(heads.items())}


def _seconds(parts: Mapping[str, Sequence[Part]], resamples: int) -> dict[str, Estimate]:
    """By method: processor seconds of both walks, divided by those of latent-shift (or of the first method without it).

    The ratio is of sums over heads; the interval is over heads.
    """
    sums = {method: np.array([part.rows["seconds"].sum() for part in mine], float) for method, mine in parts.items()}
    yardstick = sums["latent-shift" if "latent-shift" in sums else next(iter(sums))]
    heads = len(yardstick)
    counts = bootstrap_counts(heads, resamples=resamples, rng=generator(0, "seconds"))
    draws = np.concatenate([np.ones((1, heads)), counts])
    return {method: _estimate(draws, partial(_ratio, values, yardstick), heads) for method, values in sums.items()}


def _ratio(values: Floats, yardstick: Floats, weights: Floats) -> Floats:
    return np.asarray((weights @ values) / (weights @ yardstick))
