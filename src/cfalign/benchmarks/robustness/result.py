"""The result of the benchmark: do effects and alignment of a shortcut fall as the worst-group gap does?

Classifiers of one target are trained by five methods (``recipes.robust_methods``), at several doses and seeds, on faces
on which the target is correlated with a shortcut. Faces with independent attributes measure the accuracy in the worst
of the four groups of target and shortcut, and its gap to the mean. Interventions measure the true effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cfalign._analysis.statistics import bootstrap_counts, generator, percentile_interval
from cfalign._results import Floats
from cfalign.benchmarks.agreement import Flags, RankCorrelation, Score, rank_correlation
from cfalign.benchmarks.headlined import Headlined
from cfalign.benchmarks.robustness.options import CONTROL, RobustnessOptions

HEADLINE = {
    "rank_effect_gap": ("effect", "gap"),
    "rank_incoming_gap": ("incoming", "gap"),
    "rank_outgoing_gap": ("outgoing", "gap"),
    "rank_truth_gap": ("truth", "gap"),
    "rank_effect_truth": ("effect", "truth"),
    "rank_effect_worst": ("effect", "worst_error"),
    "rank_truth_worst": ("truth", "worst_error"),
}
"""Name → the two measures whose absolute values are ranked."""
SHOWN = {"worst_group": "worst group", "gap": "gap", "effect": "effect", "truth": "true effect"}
"""Column that is averaged over the classifiers of a method → its title."""
RESAMPLES = 2000


@dataclass(frozen=True)
class RobustClassifier:
    """One trained classifier; effects and ψ are those of its shortcut, in probability."""

    classifier: str
    target: str
    shortcut: str
    dose: float
    training_seed: int
    method: str
    accuracy: float
    """Over faces with independent attributes; the next two fields too."""
    worst_group: float
    """Lowest accuracy among the four groups of target and shortcut."""
    gap: float
    """``accuracy`` − ``worst_group``."""
    truth: float
    """Effect by intervention over faces with independent attributes."""
    truth_here: float
    """The same over faces distributed as the audited ones."""
    effect: float
    """Unmixed effect, with its 95 % interval."""
    ci_low: float
    ci_high: float
    incoming: float
    outgoing: float
    """Mean ψ over the classifier's own counterfactuals; NaN without any."""
    outgoing_low: float
    outgoing_high: float
    outgoing_n: int

    @property
    def pair(self) -> str:
        """``TARGET_from_SHORTCUT``."""
        return f"{self.target}_from_{self.shortcut}"

    @property
    def worst_error(self) -> float:
        """1 − ``worst_group``: unlike the gap, it still grows when the mean accuracy falls."""
        return 1 - self.worst_group


@dataclass(frozen=True)
class MethodMeans:
    """Means over a method's classifiers with 95 % bootstrap intervals; NaN intervals for a single classifier."""

    method: str
    dose: float | None
    """None: all doses except the control."""
    n: int
    means: Mapping[str, tuple[float, float, float]]
    """``worst_group``, ``gap``, ``effect`` and ``truth`` → mean, low, high."""


@dataclass(frozen=True, repr=False)
class Robustness(Headlined):
    """The benchmark's result."""

    classifiers: tuple[RobustClassifier, ...]
    options: RobustnessOptions

    @cached_property
    def agreements(self) -> dict[str, dict[str, RankCorrelation]]:
        """Name of ``HEADLINE`` → rank correlations by kind.

        ``all``: over all classifiers; ``within_pairs``, and one per pair; ``fixed_dose``: within pair and dose, over
        methods and seeds; ``fixed_method``: within pair and method, over doses and seeds.
        """
        strata = self._strata()
        return {
            name: {kind: self._agreement(x, y, *stratum) for kind, stratum in strata.items()}
            for name, (x, y) in HEADLINE.items()
        }

    def _strata(self) -> dict[str, tuple[list[str], Flags]]:
        """Kind of rank correlation → the group of every classifier, and which classifiers count."""
        rows = self.classifiers
        pair = [row.pair for row in rows]
        every = np.full(len(rows), True)
        planted = np.array([row.dose != CONTROL for row in rows])
        of_pair = {name: (pair, np.array([row.pair == name for row in rows])) for name in dict.fromkeys(pair)}
        return {
            "all": ([""] * len(rows), every),
            "within_pairs": (pair, every),
            **of_pair,
            "fixed_dose": ([f"{row.pair}@{row.dose:g}" for row in rows], planted),
            "fixed_method": ([f"{row.pair}.{row.method}" for row in rows], planted),
        }

    def _agreement(self, x: str, y: str, groups: list[str], counted: Flags) -> RankCorrelation:
        one, other = (np.where(counted, self._sizes(name), np.nan) for name in (x, y))
        return rank_correlation(one, other, groups, seed=self.options.seed)

    @property
    def headline(self) -> dict[str, float]:
        """Rank correlations over all classifiers with intervals (``_low``, ``_high``), within pairs, and at fixed dose.

        Programs rely on the names.
        """
        result: dict[str, float] = {"classifiers": len(self.classifiers)}
        for name, found in self.agreements.items():
            pooled = found["all"]
            result |= {name: pooled.rho, f"{name}_low": pooled.ci_low, f"{name}_high": pooled.ci_high}
            result |= {f"{name}_{kind}": found[kind].rho for kind in ("within_pairs", "fixed_dose")}
        return result

    @property
    def methods(self) -> tuple[MethodMeans, ...]:
        """Means of every method over all planted doses and at each dose, then those of the control."""
        wanted = [(method, dose) for method in self.options.methods for dose in (None, *self.options.doses)]
        return tuple(self._method(method, dose) for method, dose in [*wanted, ("erm", CONTROL)])

    def _method(self, method: str, dose: float | None) -> MethodMeans:
        mine = [row for row in self.classifiers if row.method == method]
        rows = [row for row in mine if (row.dose != CONTROL if dose is None else row.dose == dose)]
        rng = generator(self.options.seed, method, str(dose))
        counts = bootstrap_counts(len(rows), resamples=RESAMPLES, rng=rng)
        means = {}
        for name in SHOWN:
            values = np.array([getattr(row, name) for row in rows], dtype=np.float64)
            drawn = counts @ values[:, None] / len(rows)
            low, high = percentile_interval(drawn if len(rows) > 1 else np.full((1, 1), np.nan))
            means[name] = (float(values.mean()), float(low[0]), float(high[0]))
        return MethodMeans(method, dose, len(rows), means)

    def _sizes(self, name: str) -> Floats:
        return np.abs(np.array([getattr(row, name) for row in self.classifiers], dtype=np.float64))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        agreements = {
            name: {kind: asdict(agreement) for kind, agreement in found.items()}
            for name, found in self.agreements.items()
        }
        return {
            "headline": self.headline,
            "options": asdict(self.options),
            "agreements": agreements,
            "methods": [asdict(means) for means in self.methods],
            "classifiers": [asdict(row) for row in self.classifiers],
        }

    def lines(self) -> list[str]:
        """For the terminal: a table of methods, then the agreements."""
        return [*self._method_lines(), *self._agreement_lines()]

    def _method_lines(self) -> list[str]:
        titles = "".join(f"{title:>22}" for title in SHOWN.values())
        rows = [f"{'method':<12}{'dose':>5}{'n':>4}{titles}"]
        for means in self.methods:
            dose = "all" if means.dose is None else f"{means.dose:g}"
            cells = "".join(f"{Score(*means.means[name])!s:>22}" for name in SHOWN)
            rows.append(f"{means.method:<12}{dose:>5}{means.n:>4}{cells}")
        return rows

    def _agreement_lines(self) -> list[str]:
        rows = [f"{'rank correlation':<20}{'within':<32}{'ρ':>6}  {'95 % interval':<16}{'n':>4}{'groups':>7}"]
        for name, found in self.agreements.items():
            for kind, agreement in found.items():
                interval = f"[{agreement.ci_low:.2f}, {agreement.ci_high:.2f}]"
                counts = f"{agreement.n:>4}{agreement.groups:>7}"
                rows.append(f"{name:<20}{kind:<32}{agreement.rho:>6.2f}  {interval:<16}{counts}")
        return rows
