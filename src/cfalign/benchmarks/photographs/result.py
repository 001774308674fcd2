"""The result of the benchmark: classifiers trained at several doses of a confounder, and their rank correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cfalign._results import Floats
from cfalign.benchmarks.agreement import RankCorrelation, mean_of_known, rank_correlation, rmse
from cfalign.benchmarks.headlined import Headlined
from cfalign.benchmarks.photographs.plan import PlannedPair

WITHIN = (
    ("effect", "gap"),
    ("group_gap", "gap"),
    ("incoming", "gap"),
    ("incoming_logit", "gap"),
    ("effect", "dose"),
)
COMPARED = (
    *WITHIN[:4],
    ("effect", "prediction_gap"),
    ("group_gap", "prediction_gap"),
    ("incoming", "prediction_gap"),
    ("incoming_logit", "prediction_gap"),
    ("prediction_gap", "gap"),
)
"""Columns of ``ConfoundedClassifier`` whose rank correlation is taken: within pairs, and over all classifiers."""


@dataclass(frozen=True)
class ConfoundedClassifier:
    """One trained classifier. All numbers are in probability; intervals are at 95 %."""

    target: str
    confounder: str
    dose: float
    seed: int
    effect: float
    """Unmixed effect of the confounder; NaN if its head has no counterfactual."""
    ci_low: float
    ci_high: float
    q: float
    group_gap: float
    """Difference of the mean score with and without the confounder, as the effects explain it without labels. The
    target's own effect is left out. It contains the effects of the confounder and of everything correlated with it."""
    group_gap_low: float
    group_gap_high: float
    incoming: float
    """Mean over images of ψ(confounder → classifier), Eq. 3; not unmixed."""
    incoming_low: float
    incoming_high: float
    incoming_logit: float
    """ψ on standardised logits, which does not saturate."""
    n: int
    """Counterfactuals of the confounder behind the effect."""
    rank: int
    """Rank of the confounder by |effect| among all attributes except the target; 1 is the strongest, 0 is unknown."""
    attributes: int
    """Number of ranked attributes."""
    accuracies: tuple[float, ...]
    """Accuracies of the groups (1, 1), (1, 0), (0, 1), (0, 0) of target and confounder."""
    gap: float
    """Worst-group gap: mean of the four accuracies minus the lowest."""
    gap_low: float
    gap_high: float
    gap_error: float
    """Standard error of the gap, by bootstrap over images."""
    prediction_gap: float
    """Difference of the mean probability with and without the confounder, at fixed target."""
    prediction_gap_low: float
    prediction_gap_high: float


@dataclass(frozen=True)
class ConfoundedPair:
    """A target and its confounder, and what the pair's classifiers show."""

    target: str
    confounder: str
    images: int
    """Training images of each classifier."""
    groups: tuple[int, ...]
    """Measured images of the groups (1, 1), (1, 0), (0, 1), (0, 0)."""
    doses: tuple[float, ...]
    ranked: Mapping[str, RankCorrelation]
    """Rank correlations over the pair's classifiers, by names from ``WITHIN`` such as ``effect_gap``."""
    monotone: bool
    """Whether the effect (mean over seeds) never falls from one dose to the next."""


@dataclass(frozen=True, repr=False)
class Photographs(Headlined):
    """The benchmark's result."""

    pairs: tuple[ConfoundedPair, ...]
    classifiers: tuple[ConfoundedClassifier, ...]
    left_out: tuple[str, ...]
    """One sentence for every dose and pair that was left out."""
    pooled: Mapping[str, RankCorrelation]
    """Rank correlations over all classifiers, by names from ``COMPARED`` such as ``effect_gap``; ``prediction_gap_gap``
    is the agreement of the two gaps by labels.
    """
    gap_repeats: float
    """Mean rank correlation of the measured gaps with resampled ones: the limit that the gaps' noise sets."""
    seed: int

    @property
    def headline(self) -> dict[str, float]:
        """Programs rely on the names."""
        pooled, most = self.pooled, max(row.dose for row in self.classifiers)
        ranks = [row.rank for row in self.classifiers if row.dose == most and row.rank]

        def within(name: str) -> float:
            return mean_of_known([pair.ranked[name].rho for pair in self.pairs])

        return {
            "rank_effect_gap": pooled["effect_gap"].rho,
            "rank_effect_gap_low": pooled["effect_gap"].ci_low,
            "rank_effect_gap_high": pooled["effect_gap"].ci_high,
            "rank_effect_gap_mean_within_pairs": within("effect_gap"),
            "rank_effect_prediction_gap": pooled["effect_prediction_gap"].rho,
            "rank_group_gap_gap": pooled["group_gap_gap"].rho,
            "rank_group_gap_gap_low": pooled["group_gap_gap"].ci_low,
            "rank_group_gap_gap_high": pooled["group_gap_gap"].ci_high,
            "rank_group_gap_gap_mean_within_pairs": within("group_gap_gap"),
            "rank_group_gap_prediction_gap": pooled["group_gap_prediction_gap"].rho,
            "rmse_group_gap_prediction_gap": self._group_gap_error(),
            "rank_incoming_gap": pooled["incoming_gap"].rho,
            "rank_incoming_gap_mean_within_pairs": within("incoming_gap"),
            "rank_incoming_logit_gap": pooled["incoming_logit_gap"].rho,
            "rank_incoming_logit_gap_mean_within_pairs": within("incoming_logit_gap"),
            "rank_prediction_gap_gap": pooled["prediction_gap_gap"].rho,
            "rank_gap_repeated": self.gap_repeats,
            "rank_effect_dose_mean_within_pairs": within("effect_dose"),
            "gap_standard_error": mean_of_known([row.gap_error for row in self.classifiers]),
            "median_rank_at_highest_dose": float(np.median(ranks)) if ranks else float("nan"),
            "monotone_pairs": sum(pair.monotone for pair in self.pairs),
            "pairs": len(self.pairs),
            "classifiers": len(self.classifiers),
            "left_out": len(self.left_out),
        }

    def _group_gap_error(self) -> float:
        """RMSE of the group gap, which uses no labels, against the prediction gap by labels."""
        estimate, truth = (_column(self.classifiers, name) for name in ("group_gap", "prediction_gap"))
        known = np.isfinite(estimate - truth)
        return rmse(estimate[known], truth[known]) if known.any() else float("nan")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "headline": self.headline,
            "seed": self.seed,
            "pooled": {name: asdict(correlation) for name, correlation in self.pooled.items()},
            "pairs": [asdict(pair) for pair in self.pairs],
            "classifiers": [asdict(row) for row in self.classifiers],
            "left_out": list(self.left_out),
        }

    def of(self, pair: ConfoundedPair, dose: float | None = None) -> list[ConfoundedClassifier]:
        """The classifiers of a pair, at one dose if it is given."""
        names = (pair.target, pair.confounder)
        mine = [row for row in self.classifiers if (row.target, row.confounder) == names]
        return mine if dose is None else [row for row in mine if row.dose == dose]

    def lines(self) -> list[str]:
        """For the terminal. Numbers and interval ends are means over seeds."""
        rows = [sentence for pair in self.pairs for sentence in self._pair_lines(pair)]
        left_out = [f"Left out: {sentence}" for sentence in self.left_out]
        numbers = [f"{name:<44}{_number(value)}" for name, value in self.headline.items()]
        return [*rows, *left_out, *numbers]

    def _pair_lines(self, pair: ConfoundedPair) -> list[str]:
        place = "+".join(map(str, pair.groups))
        effect, gap = pair.ranked["effect_gap"], pair.ranked["group_gap_gap"]
        falls = "" if pair.monotone else "; the effect does not rise with every dose"
        return [
            f"{pair.target} from {pair.confounder}: {pair.images} training images each, {place} measured",
            f"  {'dose':>5}{'n':>5}  {'effect':<22}{'group gap':<22}{'ψ':<22}{'ψ logit':>8}{'rank':>7}  "
            f"{'worst-group gap':<22}prediction gap",
            *(_dose_line(dose, self.of(pair, dose)) for dose in pair.doses),
            f"  rank correlation of effect and worst-group gap {_rank(effect)}, of the group gap {_rank(gap)}, over "
            f"{effect.n} classifiers{falls}",
        ]


def read(
    pairs: Sequence[PlannedPair],
    classifiers: Sequence[ConfoundedClassifier],
    *,
    left_out: Sequence[str],
    gap_repeats: float,
    seed: int,
) -> Photographs:
    """The result from the classifiers."""
    pooled = {f"{a}_{b}": _ranked(classifiers, a, b, seed, "all") for a, b in COMPARED}
    return Photographs(
        pairs=tuple(_pair(pair, classifiers, seed) for pair in pairs),
        classifiers=tuple(classifiers),
        left_out=tuple(left_out),
        pooled=pooled,
        gap_repeats=gap_repeats,
        seed=seed,
    )


def _pair(pair: PlannedPair, classifiers: Sequence[ConfoundedClassifier], seed: int) -> ConfoundedPair:
    mine = [row for row in classifiers if (row.target, row.confounder) == pair.names]
    doses = tuple(sorted({row.dose for row in mine}))
    means = [mean_of_known([row.effect for row in mine if row.dose == dose]) for dose in doses]
    ranked = {f"{a}_{b}": _ranked(mine, a, b, seed, f"{pair.target} {pair.confounder}") for a, b in WITHIN}
    return ConfoundedPair(
        target=pair.target,
        confounder=pair.confounder,
        images=pair.images,
        groups=tuple(len(group) for group in pair.measured),
        doses=doses,
        ranked=ranked,
        monotone=bool((np.diff(means) >= 0).all()),
    )


def _ranked(rows: Sequence[ConfoundedClassifier], a: str, b: str, seed: int, name: str) -> RankCorrelation:
    one_group = [f"{name} {a} {b}"] * len(rows)
    return rank_correlation(_column(rows, a), _column(rows, b), one_group, seed=seed, stream="ranked")


def _column(rows: Sequence[ConfoundedClassifier], name: str) -> Floats:
    return np.array([getattr(row, name) for row in rows], dtype=np.float64)


def _dose_line(dose: float, rows: Sequence[ConfoundedClassifier]) -> str:
    effect = _cell(rows, "effect", "ci_low", "ci_high")
    group_gap = _cell(rows, "group_gap", "group_gap_low", "group_gap_high")
    incoming = _cell(rows, "incoming", "incoming_low", "incoming_high")
    gap = _cell(rows, "gap", "gap_low", "gap_high")
    prediction_gap = _cell(rows, "prediction_gap", "prediction_gap_low", "prediction_gap_high")
    logit = mean_of_known([row.incoming_logit for row in rows])
    rank = "/".join(str(row.rank) for row in rows)
    return f"  {dose:>5g}{rows[0].n:>5}  {effect}{group_gap}{incoming}{logit:>+8.2f}{rank:>7}  {gap}{prediction_gap}"


def _cell(rows: Sequence[ConfoundedClassifier], value: str, low: str, high: str) -> str:
    means = [mean_of_known([getattr(row, name) for row in rows]) for name in (value, low, high)]
    text = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*means)
    return f"{text:<22}"


def _rank(found: RankCorrelation) -> str:
    return f"{found.rho:.2f} [{found.ci_low:.2f}, {found.ci_high:.2f}]"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
