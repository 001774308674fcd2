"""Methods of making counterfactuals side by side: means with bootstrap intervals over faces, and what follows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from cfalign._analysis.statistics import bootstrap_counts, generator, percentile_interval
from cfalign._results import Floats
from cfalign.benchmarks.counterfactuals.measures import correlation_difference, frechet_distance, weighted_mean

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
"""Measures that are means over pairs, and the column of the parts that each is a mean of."""
ROWS: tuple[tuple[str, str], ...] = (
    ("validity", "share that lands"),
    ("drop", "drop attained"),
    ("oracle_drop", "oracle's drop"),
    ("rank1", "heads whose factor moves most"),
    ("adversarial", "adversarial flips"),
    ("removed", "share of the true edit made"),
    ("edit_cosine", "cosine with the true edit"),
    ("l1", "L1 per pixel"),
    ("l2", "L2 per pixel"),
    ("latent_distance", "latent distance walked"),
    ("encoded_distance", "latent distance, encoded"),
    ("others_changed", "other attributes changed"),
    ("mnac", "MNAC"),
    ("cd", "CD"),
    ("cout", "COUT"),
    ("cout_oracle", "COUT, oracle"),
    ("frechet", "Fréchet distance"),
    ("forwards", "decoder forwards"),
    ("backwards", "backward passes"),
    ("off_validity", "off: share that lands"),
    ("off_drop", "off: drop attained"),
    ("off_oracle_drop", "off: oracle's drop"),
    ("off_removed", "off: share of the true edit"),
    ("off_edit_cosine", "off: cosine with the true edit"),
    ("off_l1", "off: L1 per pixel"),
    ("off_forwards", "off: decoder forwards, in all"),
    ("off_backwards", "off: backward passes, in all"),
    ("seconds_ratio", "seconds / latent-shift"),
)
"""Measures in the order of the table, with what they are called there."""
EVERY = ("landed", "off_landed")  # means over all pairs; the others are over those that landed


@dataclass(frozen=True)
class Part:
    """One method on one head: a row per pair, and features [pair, feature] of the counterfactuals."""

    head: str
    rows: pl.DataFrame
    features: Floats


@dataclass(frozen=True)
class Estimate:
    """A mean, its 95 % bootstrap interval over faces, and the pairs (heads, for ``rank1`` and ``cd``) it rests on."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """The benchmark's result."""

    methods: Mapping[str, Mapping[str, Estimate]]
    """By method and measure; NaN where a measure is not defined for a method."""
    beside: Mapping[str, Estimate]
    """Not of any method: drift of the autoencoder, Fréchet distances of real images and of reconstructions."""
    heads: Mapping[str, Mapping[str, Mapping[str, float]]]
    """By method and head: ``oracle_drop``, ``rank``, ``removed``, ``off_oracle_drop``, ``off_removed``, n."""
    seed: int

    @property
    def headline(self) -> dict[str, float]:
        """Names that programs rely on: ``METHOD.measure``, and those beside."""
        values = {f"{m}.{k}": e.value for m, table in self.methods.items() for k, e in table.items()}
        return values | {key: e.value for key, e in self.beside.items()}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "headline": self.headline,
            "seed": self.seed,
            "recommendation": self.recommendation(),
            "methods": {m: {k: vars(e) for k, e in table.items()} for m, table in self.methods.items()},
            "beside": {k: vars(e) for k, e in self.beside.items()},
            "heads": self.heads,
        }

    def lines(self) -> list[str]:
        """For the terminal: a column per method, what is beside, and the recommendation."""
        names = list(self.methods)
        rows = [f"{'':<33}" + "".join(f"{name:>26}" for name in names)]
        for key, title in ROWS:
            rows.append(f"{title:<33}" + "".join(f"{_cell(self.methods[m][key]):>26}" for m in names))
        counts = ", ".join(f"{m} {self.methods[m]['validity'].n} and {self.methods[m]['drop'].n}" for m in names)
        rows.append(
            f"Pairs, and those that landed, over which the means are taken: {counts}. 95 % intervals over faces, of "
            "seconds over heads; of Fréchet distances the two ways between the halves of the faces."
        )
        rows += [f"{key:<33}{_cell(e):>26}" for key, e in self.beside.items()]
        return [*rows, self.recommendation()]

    def recommendation(self) -> str:
        """What the table says, computed from it."""
        return " ".join([self._choice("", "For counterfactuals"), self._choice("off_", "To switch attributes off")])

    def _choice(self, end: str, purpose: str) -> str:
        """The cheapest method whose oracle drop is not clearly below the best one's, among those that mostly land and
        whose flips are mostly not adversarial.
        """
        tables = self.methods
        sound = [
            m for m in tables if tables[m][f"{end}validity"].value >= 0.9 and not tables[m]["adversarial"].value > 0.5
        ]
        refused = [m for m in tables if m not in sound]
        if not sound:
            return f"{purpose} no method can be recommended: none lands in 90 % with most flips semantic."
        key = f"{end}oracle_drop"
        best = max(sound, key=lambda m: tables[m][key].value)
        near = [m for m in sound if tables[m][key].high >= tables[best][key].low]
        chosen = min(near, key=lambda m: _cost(tables[m], end))
        told = f"{purpose} take {chosen}: the oracle sees a drop of {_told(tables[chosen][key])}"
        told += f" at {_cost(tables[chosen], end):.1f} decoder passes"
        rest = [m for m in sound if m != chosen]
        least = _cost(tables[chosen], end)
        told += "".join(
            f"; {m} {tables[m][key].value:.2f} at {_cost(tables[m], end) / least:.1f} times the passes" for m in rest
        )
        told += "".join(_closer(m, tables[m], tables[chosen], end) for m in rest)
        if refused:
            why = "; ".join(
                f"{m} (lands in {tables[m][f'{end}validity'].value:.0%}, {tables[m]['adversarial'].value:.0%} of its "
                "flips adversarial)"
                for m in refused
            )
            told += f". Not {why}"
        return told + "."


def _closer(method: str, table: Mapping[str, Estimate], chosen: Mapping[str, Estimate], end: str) -> str:
    """In what a method is better than the chosen one, intervals apart."""
    better = [
        f"{words} {_told(table[key])} against {_told(chosen[key])}"
        for key, words, sign in (
            (f"{end}validity", "lands more often,", 1),
            (f"{end}edit_cosine", "has a higher cosine with the true edit,", 1),
            *(() if end else (("others_changed", "changes fewer other attributes,", -1),)),
        )
        if key in table and sign * table[key].value > sign * chosen[key].value
        and (table[key].low > chosen[key].high if sign > 0 else table[key].high < chosen[key].low)
    ]  # fmt: skip
    return f"; {method} {' and '.join(better)}" if better else ""


def _cost(table: Mapping[str, Estimate], end: str) -> float:
    """Decoder passes, forward and backward."""
    return table[f"{end}forwards"].value + table[f"{end}backwards"].value


def _told(e: Estimate) -> str:
    return f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"


def _cell(e: Estimate) -> str:
    if not math.isfinite(e.value):
        return "–"
    digits = 4 if abs(e.value) < 0.1 else 2
    interval = f" [{e.low:.{digits}f}, {e.high:.{digits}f}]" if math.isfinite(e.low) else ""
    return f"{e.value:.{digits}f}{interval}"


def compare(
    parts: Mapping[str, Sequence[Part]],
    correlations: Mapping[str, Floats],
    real: Mapping[str, Floats],
    drift: Mapping[str, Floats],
    *,
    seed: int,
    resamples: int,
) -> Comparison:
    """Estimates of every measure from the parts of every method.

    ``correlations``: of the labels with each head's, by head; ``real``: features of every face and its reconstruction;
    ``drift``: of the autoencoder, [face] each. One draw of faces serves all measures, so methods are compared in pairs.
    """
    faces = len(real["real"])
    counts = bootstrap_counts(faces, resamples=resamples, rng=generator(seed, "counterfactuals"))
    draws = np.concatenate([np.ones((1, faces)), counts])
    methods = {method: _estimates(list(mine), correlations, draws) for method, mine in parts.items()}
    beside = {key: _estimate(draws, partial(weighted_mean, values), faces) for key, values in drift.items()}
    _with_realism(methods, beside, parts, real, seed)
    _with_seconds(methods, parts, draws)
    return Comparison(methods, beside, {m: _by_head(mine) for m, mine in parts.items()}, seed)


def _estimate(draws: Floats, statistic: Callable[[Floats], Floats], n: int) -> Estimate:
    values = statistic(draws)
    low, high = percentile_interval(values[1:, None])
    return Estimate(float(values[0]), float(low[0]), float(high[0]), n)


def _estimates(parts: Sequence[Part], correlations: Mapping[str, Floats], draws: Floats) -> dict[str, Estimate]:
    rows = pl.concat([part.rows for part in parts])
    face, landed = rows["face"].to_numpy(), rows["landed"].to_numpy() > 0
    off = rows["off_landed"].to_numpy() > 0
    out = {}
    for key, column in MEANS.items():
        values = rows[column].to_numpy().astype(float)
        if column not in EVERY:
            values = np.where(off if column.startswith("off_") else landed, values, np.nan)
        n = int(np.isfinite(values).sum())
        out[key] = _estimate(draws[:, face], partial(weighted_mean, values), n)
    used = [(part, _landed(part)) for part in parts]
    used = [(part, mine) for part, mine in used if len(mine)]
    out["rank1"] = _estimate(draws, lambda w: _rank1(used, w), len(used))
    out["cd"] = _centred(_cd(used, correlations, draws), len(used))
    return out


def _centred(values: Floats, n: int) -> Estimate:
    """Noise makes a sum of absolute differences larger, and a bootstrap adds noise: its bias is taken off."""
    low, high = percentile_interval(values[1:, None] - values[1:].mean() + values[0])
    return Estimate(float(values[0]), float(low[0]), float(high[0]), n)


def _landed(part: Part) -> pl.DataFrame:
    return part.rows.filter(pl.col("landed") > 0)


def _columns(rows: pl.DataFrame, kind: str) -> tuple[list[str], Floats]:
    names = [c for c in rows.columns if c.startswith(f"{kind}.")]
    return [c.removeprefix(f"{kind}.") for c in names], rows.select(names).to_numpy()


def _rank1(parts: Sequence[tuple[Part, pl.DataFrame]], weights: Floats) -> Floats:
    """Share of heads whose own factor falls, and moves more than every other factor with a head of its own."""
    factors = [part.head for part, _ in parts]
    hits = []
    for part, rows in parts:
        names, change = _columns(rows, "change")
        mine = weights[:, rows["face"].to_numpy()] @ change[:, [names.index(f) for f in factors]]
        own = factors.index(part.head)
        hits.append((np.abs(mine).argmax(axis=1) == own) & (mine[:, own] < 0))
    return np.asarray(np.mean(hits, axis=0)) if hits else np.full(len(weights), np.nan)


def _cd(parts: Sequence[tuple[Part, pl.DataFrame]], correlations: Mapping[str, Floats], weights: Floats) -> Floats:
    """Mean over heads."""
    values = []
    for part, rows in parts:
        names, flipped = _columns(rows, "flip")
        w = weights[:, rows["face"].to_numpy()]
        with np.errstate(divide="ignore", invalid="ignore"):
            values.append(correlation_difference(flipped, names.index(part.head), correlations[part.head], w))
    return np.asarray(np.nanmean(values, axis=0)) if values else np.full(len(weights), np.nan)


def _by_head(parts: Sequence[Part]) -> dict[str, dict[str, float]]:
    factors = [part.head for part in parts]
    out = {}
    for part in parts:
        rows = _landed(part)
        names, change = _columns(rows, "change")
        mean = np.abs(change.mean(axis=0)) if len(rows) else np.full(len(names), np.nan)
        own = mean[names.index(part.head)]
        keys = ("drop", "oracle_drop", "removed", "off_drop", "off_oracle_drop", "off_removed", "off_edit_cosine")
        means = {k: weighted_mean(rows[k].to_numpy(), np.ones((1, len(rows))))[0] for k in keys}
        cost = {
            k: float(rows[k].to_numpy().mean()) if len(rows) else math.nan for k in ("off_forwards", "off_backwards")
        }
        rank = 1 + int((mean[[names.index(f) for f in factors]] > own).sum())
        out[part.head] = {"n": len(rows), "rank": rank, **{k: float(v) for k, v in means.items()}, **cost}
    return out


def _with_realism(
    methods: dict[str, dict[str, Estimate]],
    beside: dict[str, Estimate],
    parts: Mapping[str, Sequence[Part]],
    real: Mapping[str, Floats],
    seed: int,
) -> None:
    """Fréchet distances between one half of the faces and the real images of the other half, both ways; low and high
    are the two ways. A face lends one counterfactual, of the same head for every method, where all of them landed.
    """
    rng = generator(seed, "realism")
    landed = {m: {(p.head, f) for p in mine for f in _landed(p)["face"].to_list()} for m, mine in parts.items()}
    common = sorted(set.intersection(*landed.values())) if landed else []
    of: dict[int, list[str]] = {}
    for name, face in common:
        of.setdefault(int(face), []).append(name)
    chosen = {face: names[rng.integers(len(names))] for face, names in sorted(of.items())}
    faces = np.array(sorted(chosen), dtype=int)
    halves = faces[::2], faces[1::2]

    def both(first: Floats) -> Estimate:
        """``first`` [face, feature], rows of faces that lend none NaN."""
        ways = [
            frechet_distance(first[here], real["real"][there]) for here, there in (halves, halves[::-1])
        ]  # fmt: skip
        return Estimate(float(np.mean(ways)), min(ways), max(ways), len(faces))

    beside["frechet_real"] = both(real["real"])
    beside["frechet_reconstruction"] = both(real["reconstruction"])
    for method, mine in parts.items():
        table = np.full_like(real["real"], np.nan)
        for part in mine:
            for row, face in enumerate(part.rows["face"].to_list()):
                if chosen.get(int(face)) == part.head:
                    table[int(face)] = part.features[row]
        methods[method]["frechet"] = both(table)


def _with_seconds(methods: dict[str, dict[str, Estimate]], parts: Mapping[str, Sequence[Part]], draws: Floats) -> None:
    """Processor seconds of both walks over those of latent-shift (of the first method where it is missing), a ratio of
    sums over heads; the interval is over heads.
    """
    sums = {m: np.array([p.rows["seconds"].sum() for p in mine], dtype=float) for m, mine in parts.items()}
    yard = sums["latent-shift" if "latent-shift" in sums else next(iter(sums))]
    heads = bootstrap_counts(len(yard), resamples=len(draws) - 1, rng=generator(0, "seconds"))
    weights = np.concatenate([np.ones((1, len(yard))), heads])
    for method, mine in sums.items():
        methods[method]["seconds_ratio"] = _estimate(weights, partial(_ratio, mine, yard), len(yard))


def _ratio(values: Floats, yard: Floats, weights: Floats) -> Floats:
    return np.asarray((weights @ values) / (weights @ yard))
