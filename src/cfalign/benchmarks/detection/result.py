"""The result of the benchmark: values of all detectors, and their agreement with interventions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cfalign._analysis.statistics import auroc, generator
from cfalign._results import ALPHA, Floats, excludes_zero
from cfalign.benchmarks.agreement import (
    Flags,
    Rows,
    Score,
    average_precision,
    mean_of_known,
    pearson,
    rmse,
    score_of_groups,
    share,
    spearman,
)
from cfalign.benchmarks.detection.options import DetectionOptions
from cfalign.benchmarks.headlined import Headlined

DETECTORS = (
    "effect",
    "incoming",
    "outgoing",
    "outgoing_ratio",
    "outgoing_median",
    "outgoing_logit",
    "prediction_correlation",
    "label_correlation",
    "saliency_gradient",
    "saliency_integrated",
    "saliency_guided",
    "tcav",
)
"""Unmixed effect; incoming ψ; outgoing ψ by four estimators; correlation of the predictions of audited head and
reference head; correlation of the labels; cosine of saliency maps by three methods; directional derivatives along
concepts."""
USED = 0.1
"""An attribute is truly used if |effect by intervention| is above this; a finding's effect is at least as large."""
TRUTHS = ("truth", "truth_here")
"""True effects over faces with independent attributes, and over faces distributed as the audited ones."""
KINDS = ("used", "correlated", "neither")
RESAMPLES = 300


@dataclass(frozen=True)
class AuditedPair:
    """One audited classifier and one attribute other than its target; detectors are NaN where undefined."""

    classifier: str
    target: str
    shortcut: str
    dose: float
    seed: int
    attribute: str
    truth: float
    """Effect by intervention over faces with independent attributes."""
    truth_here: float
    """The same over faces distributed as the audited images."""
    effect: float
    ci_low: float
    ci_high: float
    q: float
    incoming: float
    outgoing: float
    outgoing_ratio: float
    outgoing_median: float
    outgoing_logit: float
    outgoing_q: float
    prediction_correlation: float
    label_correlation: float
    saliency_gradient: float
    saliency_integrated: float
    saliency_guided: float
    tcav: float

    @property
    def planted(self) -> bool:
        """Whether the attribute is the shortcut."""
        return self.attribute == self.shortcut

    @property
    def found(self) -> bool:
        """Whether the audit reports it as a finding: the effect is clear and at least ``USED``."""
        clear = self.q < ALPHA and excludes_zero(self.ci_low, self.ci_high)
        return clear and abs(self.effect) >= USED

    def kind(self, used: float) -> str:
        """``used``; ``correlated`` with the target on the images but not used; or ``neither``."""
        if abs(self.truth) > used:
            return "used"
        return "correlated" if self.planted else "neither"


@dataclass(frozen=True)
class DoseMeans:
    """Means over pairs and seeds of the shortcut at one dose."""

    target: str
    """A target, or "all"."""
    dose: float
    n: int
    effect: float
    truth: float
    truth_here: float
    outgoing: float


@dataclass(frozen=True, repr=False)
class Detection(Headlined):
    """The benchmark's result."""

    pairs: tuple[AuditedPair, ...]
    options: DetectionOptions

    def column(self, name: str) -> Floats:
        """A field of every pair, [pair]."""
        return np.array([getattr(pair, name) for pair in self.pairs], dtype=np.float64)

    @property
    def found(self) -> Flags:
        """Whether the audit reports each pair as a finding, [pair]."""
        return np.array([pair.found for pair in self.pairs], dtype=np.bool_)

    def scores(self, detector: str, truth: str = "truth") -> dict[str, Score]:
        """How well |detector| separates used pairs from the others.

        ``auroc`` and ``average_precision``; ``rank``: Spearman's correlation of |detector| with |true effect|.
        """
        return self._scores[detector, truth]

    def rates(self, truth: str = "truth") -> dict[str, Score]:
        """Rates of findings and errors of the effect.

        ``power``: share of findings among used pairs, and among used shortcuts at dose 0.9; ``false_alarm_rate``: share
        among pairs that are not used; ``pearson``, ``rmse`` and ``interval_coverage`` of the effect.
        """
        return self._rates[truth]

    @cached_property
    def _scores(self) -> dict[tuple[str, str], dict[str, Score]]:
        return {(detector, truth): self._scores_of(detector, truth) for detector in DETECTORS for truth in TRUTHS}

    @cached_property
    def _rates(self) -> dict[str, dict[str, Score]]:
        return {truth: self._rates_of(truth) for truth in TRUTHS}

    def _scores_of(self, detector: str, truth: str) -> dict[str, Score]:
        size, true = np.abs(self.column(detector)), np.abs(self.column(truth))
        used = true > USED
        known = np.isfinite(size)
        return {
            "auroc": self._scored(lambda rows: auroc(size[rows], used[rows].astype(np.float64)), known),
            "average_precision": self._scored(lambda rows: average_precision(size[rows], used[rows]), known),
            "rank": self._scored(lambda rows: float(spearman(size[rows], true[rows])), known),
        }

    def _rates_of(self, truth: str) -> dict[str, Score]:
        effect, true, found = self.column("effect"), self.column(truth), self.found
        used, known = np.abs(true) > USED, np.isfinite(effect)
        strong = self.column("dose") == 0.9
        planted = np.array([pair.planted for pair in self.pairs], dtype=np.bool_)
        covered = (self.column("ci_low") <= true) & (true <= self.column("ci_high"))

        def found_of(rows: Rows) -> float:
            return share(found[rows])

        def covered_of(rows: Rows) -> float:
            return share(covered[rows])

        return {
            "power": self._scored(found_of, used),
            "power_dose_0_9": self._scored(found_of, used & strong & planted),
            "false_alarm_rate": self._scored(found_of, ~used),
            "false_alarm_rate_correlated": self._scored(found_of, ~used & planted),
            "pearson": self._scored(lambda rows: pearson(effect[rows], true[rows]), known),
            "rmse": self._scored(lambda rows: rmse(effect[rows], true[rows]), known),
            "interval_coverage": self._scored(covered_of, known),
            "interval_coverage_used": self._scored(covered_of, known & used),
        }

    @cached_property
    def unplanted(self) -> Score:
        """Findings per audit of a classifier without a planted shortcut (dose 0); NaN without such audits."""
        found = self.found
        classifiers = len({pair.classifier for pair in self.pairs})
        attributes = len(self.pairs) / max(1, classifiers)

        def per_audit(rows: Rows) -> float:
            return float(found[rows].sum() / max(1, len(rows)) * attributes)

        return self._scored(per_audit, self.column("dose") == 0.0)

    def _scored(self, number: Callable[[Rows], float], counted: Flags) -> Score:
        """A number of the pairs ``counted``; the interval resamples classifiers with all their pairs."""
        owners: dict[str, list[int]] = {}
        for row in np.flatnonzero(counted).tolist():
            owners.setdefault(self.pairs[row].classifier, []).append(row)
        groups = [np.array(rows) for rows in owners.values()]
        return score_of_groups(number, groups, resamples=RESAMPLES, rng=generator(self.options.seed, "detection"))

    @property
    def doses(self) -> tuple[DoseMeans, ...]:
        """Means of the shortcut at every dose, over all targets and per target."""
        planted = [pair for pair in self.pairs if pair.planted]
        targets = ("all", *dict.fromkeys(pair.target for pair in planted))
        found = []
        for target in targets:
            for dose in sorted({pair.dose for pair in planted}):
                mine = [pair for pair in planted if pair.dose == dose and target in ("all", pair.target)]
                if mine:
                    found.append(_means(target, dose, mine))
        return tuple(found)

    @property
    def monotone(self) -> dict[str, bool]:
        """Target → whether the mean effect of its shortcut falls by at most 0.02 from any dose to the next."""
        curves: dict[str, list[float]] = {}
        for row in self.doses:
            curves.setdefault(row.target, []).append(row.effect)
        return {target: bool((np.diff(curve) >= -0.02).all()) for target, curve in curves.items()}

    @property
    def kinds(self) -> dict[str, int]:
        """Number of pairs of each of ``KINDS``."""
        kinds = [pair.kind(USED) for pair in self.pairs]
        return {kind: kinds.count(kind) for kind in KINDS}

    @property
    def headline(self) -> dict[str, float]:
        """Programs rely on the names. ``_here``: against the truth over faces distributed as the audited ones."""
        kinds = self.kinds
        result: dict[str, float] = {
            "pairs": len(self.pairs),
            "used": kinds["used"],
            "correlated": kinds["correlated"],
        }
        for truth, tail in zip(TRUTHS, ("", "_here"), strict=True):
            result |= {name + tail: value for name, value in self._agreement(truth).items()}
        targets = [target for target in self.monotone if target != "all"]
        bare = {pair.classifier for pair in self.pairs if pair.dose == 0.0}
        return result | {
            "unplanted_audits": len(bare),
            "findings_per_unplanted_audit": self.unplanted.value,
            "targets": len(targets),
            "monotone_targets": sum(self.monotone[target] for target in targets),
        }

    def _agreement(self, truth: str) -> dict[str, float]:
        effect, rates = self.scores("effect", truth), self.rates(truth)
        renamed = {"pearson": "pearson_effect", "rmse": "rmse_effect"}
        result = {
            "auroc_used": effect["auroc"].value,
            "average_precision_used": effect["average_precision"].value,
            "rank_effect": effect["rank"].value,
        }
        for detector in DETECTORS[1:]:
            result[f"auroc_{detector}"] = self.scores(detector, truth)["auroc"].value
        return result | {renamed.get(name, name): score.value for name, score in rates.items()}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        detectors = {truth: {name: _plain(self.scores(name, truth)) for name in DETECTORS} for truth in TRUTHS}
        return {
            "headline": self.headline,
            "options": asdict(self.options),
            "detectors": detectors,
            "rates": {truth: _plain(self.rates(truth)) for truth in TRUTHS},
            "doses": [asdict(row) for row in self.doses],
            "monotone": self.monotone,
            "pairs": [{**asdict(pair), "kind": pair.kind(USED)} for pair in self.pairs],
        }

    def lines(self) -> list[str]:
        """For the terminal: detectors, rates and doses."""
        kinds = [f"pairs {kind}: {count}" for kind, count in self.kinds.items()]
        return [*self._detector_lines(), *self._rate_lines(), *self._dose_lines(), *kinds]

    def _detector_lines(self) -> list[str]:
        title = f"{'detector':<26}{'AUROC':>22}{'average precision':>24}{'rank correlation':>24}"
        rows = []
        for name in DETECTORS:
            cells = "".join(f"{score!s:>23}" for score in self.scores(name).values())
            rows.append(f"{name:<26}{cells}")
        return [title, *rows]

    def _rate_lines(self) -> list[str]:
        title = f"{'findings and effects':<28}{'independent faces':>23}{'faces as audited':>24}"
        rates = [self.rates(truth) for truth in TRUTHS]
        rows = []
        for name in rates[0]:
            cells = "".join(f"{rate[name]!s:>24}" for rate in rates)
            rows.append(f"{name:<28}{cells}")
        return [title, *rows, f"{'findings per unplanted audit':<28}{self.unplanted!s:>24}"]

    def _dose_lines(self) -> list[str]:
        title = f"{'target':<24}{'dose':>6}{'n':>4}{'effect':>9}{'truth':>8}{'here':>8}{'outgoing ψ':>12}"
        rows = [
            f"{row.target:<24}{row.dose:>6g}{row.n:>4}{row.effect:>+9.2f}{row.truth:>+8.2f}"
            f"{row.truth_here:>+8.2f}{row.outgoing:>+12.2f}"
            for row in self.doses
        ]
        return [title, *rows]


def _means(target: str, dose: float, pairs: list[AuditedPair]) -> DoseMeans:
    def mean(name: str) -> float:
        return mean_of_known([getattr(pair, name) for pair in pairs])

    return DoseMeans(
        target=target,
        dose=dose,
        n=len(pairs),
        effect=mean("effect"),
        truth=mean("truth"),
        truth_here=mean("truth_here"),
        outgoing=mean("outgoing"),
    )


def _plain(scores: dict[str, Score]) -> dict[str, Any]:
    return {name: asdict(score) for name, score in scores.items()}
