"""The result of the benchmark: estimates of every method, and the recommendation that follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cfalign.benchmarks.headlined import Headlined

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
"""Measures in the order of the table, and their titles."""
SOUND_VALIDITY, SOUND_ADVERSARIAL = 0.9, 0.5
"""A recommended method lands in at least this share of searches, and at most this share of its flips is adversarial."""


@dataclass(frozen=True)
class Estimate:
    """A mean, its 95 % bootstrap interval over faces, and the pairs (heads, for ``rank1`` and ``cd``) it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


Estimates = Mapping[str, Estimate]
"""By measure."""


@dataclass(frozen=True, repr=False)
class Comparison(Headlined):
    """The benchmark's result."""

    methods: Mapping[str, Estimates]
    """By method and measure; NaN where a measure is not defined for a method."""
    beside: Estimates
    """Estimates without a method: drift of the autoencoder, Fréchet distances of real images and of reconstructions."""
    heads: Mapping[str, Mapping[str, Mapping[str, float]]]
    """By method and head: n, rank of the head's own factor, and means such as ``oracle_drop`` and ``off_removed``."""
    seed: int

    @property
    def headline(self) -> dict[str, float]:
        """``METHOD.measure``, and the estimates without a method. Programs rely on the names."""
        values = {f"{method}.{key}": e.value for method, table in self.methods.items() for key, e in table.items()}
        return values | {key: e.value for key, e in self.beside.items()}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "headline": self.headline,
            "seed": self.seed,
            "recommendation": self.recommendation(),
            "methods": {method: {key: vars(e) for key, e in table.items()} for method, table in self.methods.items()},
            "beside": {key: vars(e) for key, e in self.beside.items()},
            "heads": self.heads,
        }

    def lines(self) -> list[str]:
        """For the terminal: one column per method, the estimates without a method, and the recommendation."""
        titles = "".join(f"{name:>26}" for name in self.methods)
        rows = [f"{'':<33}{titles}"]
        for key, title in ROWS:
            cells = "".join(f"{_cell(table[key]):>26}" for table in self.methods.values())
            rows.append(f"{title:<33}{cells}")
        counts = ", ".join(f"{name} {t['validity'].n} and {t['drop'].n}" for name, t in self.methods.items())
        rows.append(
            f"Pairs, and those that landed, over which the means are taken: {counts}. 95 % intervals over faces, of "
            "seconds over heads; of Fréchet distances the two ways between the halves of the faces."
        )
        rows += [f"{key:<33}{_cell(e):>26}" for key, e in self.beside.items()]
        return [*rows, self.recommendation()]

    def recommendation(self) -> str:
        """The recommendation that follows from the estimates."""
        return " ".join([self._advice("", "For counterfactuals"), self._advice("off_", "To switch attributes off")])

    def _advice(self, end: str, purpose: str) -> str:
        """The cheapest method whose oracle drop is not clearly below the best one, and how the others compare.

        Methods that often miss, or whose flips are mostly adversarial, are not considered.
        """
        sound = {method: table for method, table in self.methods.items() if _sound(table, end)}
        if not sound:
            return f"{purpose} no method can be recommended: none lands in 90 % with most flips semantic."
        chosen = _choice(sound, end)
        best = sound.pop(chosen)
        words = f"{purpose} take {chosen}: the oracle sees a drop of {best[f'{end}oracle_drop']}"
        words += f" at {_cost(best, end):.1f} decoder passes"
        for method, table in sound.items():
            drop, times = table[f"{end}oracle_drop"].value, _cost(table, end) / _cost(best, end)
            words += f"; {method} {drop:.2f} at {times:.1f} times the passes"
        for method, table in sound.items():
            words += _better(method, table, best, end)
        refused = [_refused(method, table, end) for method, table in self.methods.items() if not _sound(table, end)]
        if refused:
            words += f". Not {'; '.join(refused)}"
        return words + "."


def _sound(table: Estimates, end: str) -> bool:
    lands = table[f"{end}validity"].value >= SOUND_VALIDITY
    return lands and not table["adversarial"].value > SOUND_ADVERSARIAL


def _choice(tables: Mapping[str, Estimates], end: str) -> str:
    """The cheapest method among those whose interval of the oracle drop overlaps that of the best."""
    key = f"{end}oracle_drop"
    best = max(tables, key=lambda method: tables[method][key].value)
    near = [method for method, table in tables.items() if table[key].high >= tables[best][key].low]
    return min(near, key=lambda method: _cost(tables[method], end))


def _refused(method: str, table: Estimates, end: str) -> str:
    lands, adversarial = table[f"{end}validity"].value, table["adversarial"].value
    return f"{method} (lands in {lands:.0%}, {adversarial:.0%} of its flips adversarial)"


def _better(method: str, table: Estimates, chosen: Estimates, end: str) -> str:
    """Measures in which a method is better than the chosen one: their intervals do not overlap."""
    more = [
        (f"{end}validity", "lands more often,"),
        (f"{end}edit_cosine", "has a higher cosine with the true edit,"),
    ]
    better = [
        f"{words} {table[key]} against {chosen[key]}"
        for key, words in more
        if key in table and table[key].low > chosen[key].high
    ]
    less = "others_changed"
    if not end and less in table and table[less].high < chosen[less].low:
        better.append(f"changes fewer other attributes, {table[less]} against {chosen[less]}")
    return f"; {method} {' and '.join(better)}" if better else ""


def _cost(table: Estimates, end: str) -> float:
    """Decoder passes, forward and backward."""
    return table[f"{end}forwards"].value + table[f"{end}backwards"].value


def _cell(e: Estimate) -> str:
    if not math.isfinite(e.value):
        return "–"
    digits = 4 if abs(e.value) < 0.1 else 2
    interval = f" [{e.low:.{digits}f}, {e.high:.{digits}f}]" if math.isfinite(e.low) else ""
    return f"{e.value:.{digits}f}{interval}"
