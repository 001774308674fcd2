"""Variants of imperfect reference heads, and how well effects come out under each.

The checks of single heads are asked whether they tell the heads that truly see the partner which they were confounded
with in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from cfalign._analysis.statistics import auroc, generator, percentile_interval
from cfalign._errors import BadInput
from cfalign.benchmarks.detection.detectors import Pair
from cfalign.benchmarks.detection.measure import TRUTHS, USED, Detection, DetectionOptions, Score
from cfalign.benchmarks.references.reference_heads import CHECKS, LOW_IS_BAD, Head
from cfalign.training.recipes.embedded import PAIRS
from cfalign.training.recipes.imperfect_references import EXPOSURES, Imperfect

VARIANTS: dict[str, tuple[str, str | None]] = {
    "plain": ("plain", None),
    "reconstructed": ("reconstructed", None),
    "judged": ("reconstructed", "judge"),
    "balanced": ("balanced", None),
    "balanced_judged": ("balanced", "balanced_judge"),
}
"""Name → network and judge of ``recipes.imperfect_references``."""
RECOMMENDED = "balanced"
"""What users with confounded images should do; the headline is its. A judge that learnt from images as confounded does
not help; one from others would."""
EMBEDDED = "embedded"
NUMBERS = {"auroc_used": "auroc", "average_precision_used": "average_precision", "pearson_effect": "pearson",
           "rmse_effect": "rmse", "interval_coverage": "interval_coverage"}  # fmt: skip
_SHOWN = {
    "auroc_used": "AUROC used",
    "rmse_effect": "RMSE",
    "pearson_effect": "Pearson",
    "interval_coverage": "coverage",
}


@dataclass(frozen=True)
class Point:
    """One training set and what is made of it."""

    dose: float
    faces: int
    variants: tuple[str, ...]

    def __post_init__(self) -> None:
        if unknown := [v for v in self.variants if v not in VARIANTS]:
            raise BadInput(f"Unknown variant {unknown[0]!r}; expected one of {', '.join(VARIANTS)}.")


_FULL = ("reconstructed", "judged", "balanced", "balanced_judged")
_TWO = ("reconstructed", "balanced")
POINTS = (
    Point(0.5, 6000, tuple(VARIANTS)),
    Point(0.9, 6000, _FULL),
    Point(0.75, 6000, _TWO),
    Point(0.25, 6000, _TWO),
    Point(0.0, 6000, ("reconstructed",)),
    Point(0.5, 1000, _TWO),
    Point(0.5, 24_000, ("balanced",)),
)


@dataclass(frozen=True)
class ReferencesOptions:
    """What is trained and measured."""

    points: tuple[Point, ...] = POINTS
    embedded: bool = True
    """Whether the embedded heads are measured too."""
    pairs: tuple[tuple[str, str], ...] = PAIRS
    """(target, shortcut) of the shipped classifiers that are audited, each with its twin."""
    limit: int = 30
    """Counterfactuals per reference head and way."""
    audited: int = 600
    """Confounded faces that are audited."""
    interventions: int = 60
    """Faces with independent attributes for the truth, of which as many again are confounded."""
    independent: int = 400
    """Faces for what the reference heads are worth."""
    exposures: int = EXPOSURES
    """Of ``recipes.imperfect_references``: how long the heads are trained."""
    seed: int = 0

    def network(self, point: Point, name: str) -> Imperfect:
        """One of the networks that are trained."""
        return Imperfect(point.dose, point.faces, name, exposures=self.exposures)


QUICK = ReferencesOptions(
    points=(Point(0.5, 400, ("balanced", "balanced_judged")),), embedded=False, pairs=PAIRS[:2], limit=4, audited=150,
    interventions=8, independent=60, exposures=6_000,
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One variant at one point."""

    dose: float
    """NaN for the embedded heads."""
    faces: int
    variant: str
    pairs: tuple[Pair, ...]
    """Every audited classifier and attribute that it is not meant to see."""
    heads: tuple[Head, ...]
    """What the reference heads are worth; the same for variants of one network."""

    @property
    def name(self) -> str:
        """``VARIANT@DOSE#FACES``, or ``embedded``."""
        return self.variant if self.variant == EMBEDDED else f"{self.variant}@{self.dose:g}#{self.faces}"

    @cached_property
    def scores(self) -> dict[str, Score]:
        """``NUMBERS`` against the truth over independent faces, and with ``_here`` over faces as audited."""
        detection = Detection(self.pairs, DetectionOptions())
        found: dict[str, Score] = {}
        for truth, tail in zip(TRUTHS, ("", "_here"), strict=True):
            both = detection.scores("effect", truth) | detection.rates(truth)
            found |= {name + tail: both[key] for name, key in NUMBERS.items()}
        return found

    def mean(self, name: str) -> float:
        """Of ``accuracy`` or ``leak`` over the heads that have it."""
        values = np.array([getattr(h, name) for h in self.heads])
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


@dataclass(frozen=True)
class References:
    """The benchmark's result."""

    measured: tuple[Measured, ...]
    options: ReferencesOptions

    def at(self, variant: str, dose: float, faces: int) -> Measured | None:
        """A variant at a point, where it was measured."""
        found = [m for m in self.measured if (m.variant, m.dose, m.faces) == (variant, dose, faces)]
        return found[0] if found else None

    @cached_property
    def checks(self) -> dict[str, Score]:
        """How well each of ``CHECKS`` tells heads that truly see their partner (leak above 0.1) from the others: AUROC
        over all heads that have a partner and that check, with a 95 % bootstrap interval over networks.
        """
        sets = {(m.faces, m.dose, VARIANTS.get(m.variant, (EMBEDDED,))[0]): m.heads for m in self.measured}
        return {name: self._check(name, list(sets.values())) for name in CHECKS}

    def _check(self, name: str, sets: Sequence[Sequence[Head]]) -> Score:
        sign = -1.0 if name in LOW_IS_BAD else 1.0
        known = [[(sign * h.checks[name], h.leak > USED) for h in heads if np.isfinite([h.checks[name], h.leak]).all()]
                 for heads in sets]  # fmt: skip
        known = [k for k in known if k]
        if not known:
            return Score(float("nan"), float("nan"), float("nan"))

        def of(chosen: Sequence[int]) -> float:
            rows = list(chain.from_iterable(known[i] for i in chosen))
            return auroc(np.array([r[0] for r in rows]), np.array([float(r[1]) for r in rows]))

        rng = generator(self.options.seed, "checks", name)
        drawn = np.array([of(rng.integers(0, len(known), len(known)).tolist()) for _ in range(300)])
        drawn = drawn[np.isfinite(drawn)] if np.isfinite(drawn).any() else np.array([np.nan])
        low, high = percentile_interval(drawn[:, None])
        return Score(of(range(len(known))), float(low[0]), float(high[0]))

    @property
    def headline(self) -> dict[str, float]:
        """Names that programs rely on: ``RECOMMENDED`` at dose 0.5 on the largest set up to 6,000 faces, then every
        variant there; ``_here``: against the truth over faces distributed as the audited ones.
        """
        faces = max((m.faces for m in self.measured if m.dose == 0.5 and m.faces <= 6000), default=0)
        result: dict[str, float] = {"references": len(self.measured), "faces": faces}
        best = self.at(RECOMMENDED, 0.5, faces)
        for name in ("auroc_used", "rmse_effect"):
            for tail in ("", "_here"):
                result[f"{name}_dose_0_5{tail}"] = best.scores[name + tail].value if best else float("nan")
        rows = {v: self.at(v, 0.5, faces) for v in VARIANTS} | {
            EMBEDDED: next((m for m in self.measured if m.variant == EMBEDDED), None)
        }
        for variant, m in rows.items():
            result |= {} if m is None else {f"{variant}.{name}": s.value for name, s in m.scores.items()}
        return result | {f"check_auroc.{name}": s.value for name, s in self.checks.items()}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "headline": self.headline,
            "options": asdict(self.options),
            "checks": {name: asdict(s) for name, s in self.checks.items()},
            "references": [
                {
                    "name": m.name, "dose": m.dose, "faces": m.faces, "variant": m.variant,
                    "accuracy": m.mean("accuracy"), "leak": m.mean("leak"),
                    **{n: asdict(s) for n, s in m.scores.items()},
                    "heads": [asdict(h) for h in m.heads], "pairs": [asdict(p) for p in m.pairs],
                }
                for m in self.measured
            ],
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For the terminal: a row per reference, then the checks of single heads."""
        rows = [f"{'reference heads':<30}{'accuracy':>9}{'leak':>6}" + "".join(
            f"{n:>22}" for n in _SHOWN.values())]  # fmt: skip
        for m in self.measured:
            for tail, title in (("", m.name), ("_here", "  faces as audited")):
                numbers = (
                    m.scores[n + tail] for n in ("auroc_used", "rmse_effect", "pearson_effect", "interval_coverage")
                )
                own = f"{m.mean('accuracy'):>9.3f}{m.mean('leak'):>6.2f}" if not tail else " " * 15
                rows.append(f"{title:<30}{own}" + "".join(f"{_text(s):>22}" for s in numbers))
        rows.append("does a check of single heads tell those that see their partner (leak > 0.1)? AUROC")
        return rows + [f"  {name:<24}{_text(s):>22}" for name, s in self.checks.items()]


def _text(score: Score) -> str:
    return f"{score.value:.3f} [{score.ci_low:.3f}, {score.ci_high:.3f}]"
