"""What classifiers trained at several doses of a confounder show: the results of ``photographs``, and their reading."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cfalign._results import Floats
from cfalign.benchmarks.photographs.worst_group import Ranked, ranked

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
"""Columns of ``Measured`` whose rank correlation is taken, within pairs and over all classifiers."""


@dataclass(frozen=True)
class Measured:
    """One classifier. Probabilities throughout; intervals are at 95 %."""

    target: str
    confounder: str
    dose: float
    seed: int
    effect: float
    """Unmixed effect of the confounder; NaN where its head has no counterfactual."""
    ci_low: float
    ci_high: float
    q: float
    group_gap: float
    """What the effects say of the images with the confounder against those without, the target's own left out: no
    label. The confounder's effect, and that of all that goes along with it."""
    group_gap_low: float
    group_gap_high: float
    incoming: float
    """ψ(confounder → classifier), Eq. 3, mean over images; not unmixed."""
    incoming_low: float
    incoming_high: float
    incoming_logit: float
    """ψ on standardised logits, which shows the use where the probability is saturated."""
    n: int
    """Counterfactuals of the confounder that the effect rests on."""
    rank: int
    """Place of the confounder by |effect| among all attributes but the target; 1 is the strongest, 0 where unknown."""
    attributes: int
    """How many it is a place among."""
    accuracies: tuple[float, ...]
    """Of the groups (1, 1), (1, 0), (0, 1), (0, 0) of target and confounder."""
    gap: float
    """Worst-group gap: mean of the four accuracies minus the lowest."""
    gap_low: float
    gap_high: float
    gap_error: float
    """Its standard error, bootstrap over images."""
    prediction_gap: float
    """Change of the mean probability with the confounder, at fixed target."""
    prediction_gap_low: float
    prediction_gap_high: float


@dataclass(frozen=True)
class Pair:
    """A target, its confounder, and the images there were."""

    target: str
    confounder: str
    images: int
    """Training images of each classifier."""
    groups: tuple[int, ...]
    """Measured images of the groups (1, 1), (1, 0), (0, 1), (0, 0)."""
    doses: tuple[float, ...]
    ranked: dict[str, Ranked]
    """Rank correlations over the pair's classifiers: the names are those of ``WITHIN``, such as effect_gap."""
    monotone: bool
    """The effect, mean over seeds, never falls from one dose to the next."""


@dataclass(frozen=True)
class Photographs:
    """The benchmark's result."""

    pairs: tuple[Pair, ...]
    classifiers: tuple[Measured, ...]
    left_out: tuple[str, ...]
    """Doses and pairs that were left out, a sentence each."""
    pooled: dict[str, Ranked]
    """Rank correlations over all classifiers: the names are those of ``COMPARED``, such as effect_gap;
    prediction_gap_gap says how well the two label-based gaps agree with each other.
    """
    gap_repeats: float
    """Mean rank correlation of the measured gaps with those on resampled images: what noise of the gaps leaves."""
    seed: int

    @property
    def headline(self) -> dict[str, float]:
        """Names that programs rely on."""
        pooled, most = self.pooled, max(m.dose for m in self.classifiers)
        ranks = [m.rank for m in self.classifiers if m.dose == most and m.rank]

        def within(name: str) -> float:
            return _mean([p.ranked[name].rho for p in self.pairs])

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
            "rmse_group_gap_prediction_gap": _rmse(self.classifiers),
            "rank_incoming_gap": pooled["incoming_gap"].rho,
            "rank_incoming_gap_mean_within_pairs": within("incoming_gap"),
            "rank_incoming_logit_gap": pooled["incoming_logit_gap"].rho,
            "rank_incoming_logit_gap_mean_within_pairs": within("incoming_logit_gap"),
            "rank_prediction_gap_gap": pooled["prediction_gap_gap"].rho,
            "rank_gap_repeated": self.gap_repeats,
            "rank_effect_dose_mean_within_pairs": within("effect_dose"),
            "gap_standard_error": _mean([m.gap_error for m in self.classifiers]),
            "median_rank_at_highest_dose": float(np.median(ranks)) if ranks else float("nan"),
            "monotone_pairs": sum(p.monotone for p in self.pairs),
            "pairs": len(self.pairs),
            "classifiers": len(self.classifiers),
            "left_out": len(self.left_out),
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "headline": self.headline, "seed": self.seed, "pooled": {k: asdict(r) for k, r in self.pooled.items()},
            "pairs": [asdict(p) for p in self.pairs], "classifiers": [asdict(m) for m in self.classifiers],
            "left_out": list(self.left_out),
        }  # fmt: skip

    def of(self, pair: Pair, dose: float | None = None) -> list[Measured]:
        """The classifiers of a pair, at one dose where given."""
        mine = [m for m in self.classifiers if (m.target, m.confounder) == (pair.target, pair.confounder)]
        return mine if dose is None else [m for m in mine if m.dose == dose]

    def lines(self) -> list[str]:
        """For the terminal. Of several seeds means are shown, of their intervals' ends too."""
        told = [sentence for pair in self.pairs for sentence in self._lines(pair)]
        numbers = [f"{name:<44}{_number(value)}" for name, value in self.headline.items()]
        return [*told, *(f"Left out: {sentence}" for sentence in self.left_out), *numbers]

    def _lines(self, pair: Pair) -> list[str]:
        place = "+".join(map(str, pair.groups))
        rows = [
            f"{pair.target} from {pair.confounder}: {pair.images} training images each, {place} measured",
            f"  {'dose':>5}{'n':>5}  {'effect':<22}{'group gap':<22}{'ψ':<22}{'ψ logit':>8}{'rank':>7}  "
            f"{'worst-group gap':<22}prediction gap",
        ]
        for dose in pair.doses:
            some = self.of(pair, dose)
            cells = [
                _cell(some, *names)
                for names in (
                    ("effect", "ci_low", "ci_high"), ("group_gap", "group_gap_low", "group_gap_high"),
                    ("incoming", "incoming_low", "incoming_high"),
                    ("gap", "gap_low", "gap_high"),
                    ("prediction_gap", "prediction_gap_low", "prediction_gap_high"),
                )
            ]  # fmt: skip
            logit = _mean([m.incoming_logit for m in some])
            rank = "/".join(str(m.rank) for m in some)
            rows.append(
                f"  {dose:>5g}{some[0].n:>5}  {cells[0]}{cells[1]}{cells[2]}{logit:>+8.2f}{rank:>7}  "
                f"{cells[3]}{cells[4]}"
            )
        r, g = pair.ranked["effect_gap"], pair.ranked["group_gap_gap"]
        return [
            *rows,
            f"  rank correlation of effect and worst-group gap {r.rho:.2f} [{r.ci_low:.2f}, {r.ci_high:.2f}], of the "
            f"group gap {g.rho:.2f} [{g.ci_low:.2f}, {g.ci_high:.2f}], over {r.n} classifiers"
            f"{'' if pair.monotone else '; the effect does not rise with every dose'}",
        ]


def read(
    groups: dict[tuple[str, str], tuple[int, tuple[int, ...]]],
    classifiers: Sequence[Measured],
    *,
    left_out: Sequence[str],
    gap_repeats: float,
    seed: int,
) -> Photographs:
    """The result from the classifiers; ``groups``: training images and measured images per group of every pair."""
    pooled = {f"{a}_{b}": _ranked(classifiers, a, b, seed, "all") for a, b in COMPARED}
    pairs = []
    for (target, confounder), (images, measured) in groups.items():
        mine = [m for m in classifiers if (m.target, m.confounder) == (target, confounder)]
        doses = tuple(sorted({m.dose for m in mine}))
        means = [_mean([m.effect for m in mine if m.dose == dose]) for dose in doses]
        ranks = {f"{a}_{b}": _ranked(mine, a, b, seed, f"{target} {confounder}") for a, b in WITHIN}
        rises = bool((np.diff(means) >= 0).all())
        pairs.append(Pair(target, confounder, images, measured, doses, ranks, rises))
    return Photographs(tuple(pairs), tuple(classifiers), tuple(left_out), pooled, gap_repeats, seed)


def _ranked(some: Sequence[Measured], a: str, b: str, seed: int, name: str) -> Ranked:
    return ranked(_column(some, a), _column(some, b), seed=seed, name=f"{name} {a} {b}")


def _column(classifiers: Sequence[Measured], name: str) -> Floats:
    return np.array([getattr(m, name) for m in classifiers], dtype=np.float64)


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def _rmse(classifiers: Sequence[Measured]) -> float:
    """Of the group gap, which knows no label, against the prediction gap by labels."""
    apart = _column(classifiers, "group_gap") - _column(classifiers, "prediction_gap")
    known = apart[np.isfinite(apart)]
    return float(np.sqrt(np.mean(known**2))) if len(known) else float("nan")


def _cell(some: Sequence[Measured], value: str, low: str, high: str) -> str:
    get: Callable[[str], float] = lambda name: _mean([getattr(m, name) for m in some])  # noqa: E731
    return f"{f'{get(value):+.2f} [{get(low):+.2f}, {get(high):+.2f}]':<22}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
