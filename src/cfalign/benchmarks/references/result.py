"""The result of the benchmark: agreement of effects with the truth under each variant of reference heads.

It also scores the checks of single heads: whether they identify heads that truly respond to the partner that they were
confounded with in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cfalign._analysis.statistics import auroc, generator
from cfalign.benchmarks.agreement import UNDEFINED, Rows, Score, mean_of_known, score_of_groups
from cfalign.benchmarks.detection.options import DetectionOptions
from cfalign.benchmarks.detection.result import TRUTHS, USED, AuditedPair, Detection
from cfalign.benchmarks.headlined import Headlined
from cfalign.benchmarks.references.options import EMBEDDED, RECOMMENDED, VARIANTS, ReferencesOptions
from cfalign.benchmarks.references.reference_heads import CHECKS, LOW_IS_BAD, ReferenceHead

NUMBERS = {
    "auroc_used": "auroc",
    "average_precision_used": "average_precision",
    "pearson_effect": "pearson",
    "rmse_effect": "rmse",
    "interval_coverage": "interval_coverage",
}
"""Name in the headline → name in ``Detection``'s scores and rates."""
SHOWN = {
    "auroc_used": "AUROC used",
    "rmse_effect": "RMSE",
    "pearson_effect": "Pearson",
    "interval_coverage": "coverage",
}
"""Columns of the table on the terminal."""
RESAMPLES = 300


@dataclass(frozen=True)
class MeasuredReference:
    """Audits against one variant of reference heads."""

    dose: float
    """Correlation of the confounded pairs in training; NaN for the embedded heads."""
    faces: int
    variant: str
    pairs: tuple[AuditedPair, ...]
    """Every audited classifier with every attribute except its target."""
    heads: tuple[ReferenceHead, ...]
    """Quality of the reference heads; the same for variants of one network."""

    @property
    def name(self) -> str:
        """``VARIANT@DOSE#FACES``, or ``embedded``."""
        return self.variant if self.variant == EMBEDDED else f"{self.variant}@{self.dose:g}#{self.faces}"

    @cached_property
    def scores(self) -> dict[str, Score]:
        """``NUMBERS`` against the truth over independent faces; names with ``_here``: over faces as audited."""
        detection = Detection(self.pairs, DetectionOptions())
        found: dict[str, Score] = {}
        for truth, tail in zip(TRUTHS, ("", "_here"), strict=True):
            both = detection.scores("effect", truth) | detection.rates(truth)
            found |= {name + tail: both[key] for name, key in NUMBERS.items()}
        return found

    def mean(self, name: str) -> float:
        """Mean ``accuracy`` or ``leak`` over the heads where it is defined."""
        return mean_of_known([getattr(head, name) for head in self.heads])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "dose": self.dose,
            "faces": self.faces,
            "variant": self.variant,
            "accuracy": self.mean("accuracy"),
            "leak": self.mean("leak"),
            **{name: asdict(score) for name, score in self.scores.items()},
            "heads": [asdict(head) for head in self.heads],
            "pairs": [asdict(pair) for pair in self.pairs],
        }


@dataclass(frozen=True, repr=False)
class References(Headlined):
    """The benchmark's result."""

    measured: tuple[MeasuredReference, ...]
    options: ReferencesOptions

    def at(self, variant: str, dose: float, faces: int) -> MeasuredReference | None:
        """A variant at a training set; None if it was not measured."""
        wanted = (variant, dose, faces)
        return next((m for m in self.measured if (m.variant, m.dose, m.faces) == wanted), None)

    @cached_property
    def checks(self) -> dict[str, Score]:
        """How well each of ``CHECKS`` separates heads that respond to their partner (leak above 0.1) from the others.

        AUROC over all heads with a partner and that check, with a 95 % bootstrap interval over networks.
        """
        networks = {}
        for m in self.measured:
            network, _ = VARIANTS.get(m.variant, (EMBEDDED, None))
            networks[m.faces, m.dose, network] = m.heads
        return {name: self._check(name, list(networks.values())) for name in CHECKS}

    def _check(self, name: str, networks: Sequence[Sequence[ReferenceHead]]) -> Score:
        sign = -1.0 if name in LOW_IS_BAD else 1.0
        readings: list[float] = []
        leaks: list[float] = []
        groups: list[Rows] = []
        for heads in networks:
            known = [head for head in heads if np.isfinite([head.checks[name], head.leak]).all()]
            if not known:
                continue
            groups.append(np.arange(len(leaks), len(leaks) + len(known)))
            readings += [sign * head.checks[name] for head in known]
            leaks += [float(head.leak > USED) for head in known]
        if not groups:
            return UNDEFINED
        reading, leak = np.array(readings), np.array(leaks)

        def told_apart(rows: Rows) -> float:
            return auroc(reading[rows], leak[rows])

        rng = generator(self.options.seed, "checks", name)
        return score_of_groups(told_apart, groups, resamples=RESAMPLES, rng=rng)

    @property
    def headline(self) -> dict[str, float]:
        """``RECOMMENDED`` at dose 0.5 on the largest set up to 6,000 faces, then every variant there.

        ``_here``: against the truth over faces distributed as the audited ones. Programs rely on the names.
        """
        faces = max((m.faces for m in self.measured if m.dose == 0.5 and m.faces <= 6000), default=0)
        result: dict[str, float] = {"references": len(self.measured), "faces": faces}
        best = self.at(RECOMMENDED, 0.5, faces)
        for name in ("auroc_used", "rmse_effect"):
            for tail in ("", "_here"):
                result[f"{name}_dose_0_5{tail}"] = best.scores[name + tail].value if best else float("nan")
        for variant in (*VARIANTS, EMBEDDED):
            scores = self._scores_of(variant, faces)
            result |= {f"{variant}.{name}": score.value for name, score in scores.items()}
        return result | {f"check_auroc.{name}": score.value for name, score in self.checks.items()}

    def _scores_of(self, variant: str, faces: int) -> dict[str, Score]:
        """Scores of a variant at dose 0.5, or of the embedded heads; empty if it was not measured."""
        if variant == EMBEDDED:
            found = next((m for m in self.measured if m.variant == EMBEDDED), None)
        else:
            found = self.at(variant, 0.5, faces)
        return {} if found is None else found.scores

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "headline": self.headline,
            "options": asdict(self.options),
            "checks": {name: asdict(score) for name, score in self.checks.items()},
            "references": [m.as_dict() for m in self.measured],
        }

    def lines(self) -> list[str]:
        """For the terminal: two lines per reference, then the checks of single heads."""
        titles = "".join(f"{title:>22}" for title in SHOWN.values())
        rows = [f"{'reference heads':<30}{'accuracy':>9}{'leak':>6}{titles}"]
        for m in self.measured:
            own = f"{m.mean('accuracy'):>9.3f}{m.mean('leak'):>6.2f}"
            rows.append(f"{m.name:<30}{own}{_cells(m, '')}")
            rows.append(f"{'  faces as audited':<30}{'':15}{_cells(m, '_here')}")
        rows.append("AUROC of the checks of single heads, for heads that respond to their partner (leak > 0.1)")
        return rows + [f"  {name:<24}{score!s:>22}" for name, score in self.checks.items()]


def _cells(m: MeasuredReference, tail: str) -> str:
    return "".join(f"{m.scores[name + tail]!s:>22}" for name in SHOWN)
