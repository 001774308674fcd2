"""Does the alignment with a shortcut fall as the gap of the worst group does, under robust training?

Classifiers of one target are trained on faces on which it is correlated with a shortcut, by five methods
(``recipes.robust_methods``), at several doses and seeds. Faces whose attributes are independent say what that is
worth: the worst of the four groups of target and shortcut, and how far it falls behind the mean. Interventions say
what the shortcut really does. The audit sees neither (``shortcuts``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cfalign._analysis.statistics import bootstrap_counts, generator, percentile_interval
from cfalign._errors import BadInput
from cfalign._models.downloads import cache_folder
from cfalign._results import Floats
from cfalign._runs.progress import Progress, silent
from cfalign.benchmarks.agreement import Agreement, agreement
from cfalign.benchmarks.robustness.measure import CONTROL, QUICK, Measured, Pair, RobustnessOptions, kept
from cfalign.synthetic import render, sample
from cfalign.training.recipes.robust_methods import load_robust, train_all_robust

__all__ = ["HEADLINE", "QUICK", "Measured", "Method", "Robustness", "RobustnessOptions", "robustness"]

HEADLINE = {
    "rank_effect_gap": ("effect", "gap"),
    "rank_incoming_gap": ("incoming", "gap"),
    "rank_outgoing_gap": ("outgoing", "gap"),
    "rank_truth_gap": ("truth", "gap"),
    "rank_effect_truth": ("effect", "truth"),
    "rank_effect_worst": ("effect", "worst_error"),
    "rank_truth_worst": ("truth", "worst_error"),
}
"""Name → the two measures whose sizes are put in order."""


@dataclass(frozen=True)
class Method:
    """Means over a method's classifiers with 95 % bootstrap intervals over them, NaN for a single one."""

    method: str
    dose: float | None
    """None: all doses at which something is planted."""
    n: int
    means: Mapping[str, tuple[float, float, float]]
    """``worst_group``, ``gap``, ``effect`` and ``truth`` → mean, low, high."""


@dataclass(frozen=True)
class Robustness:
    """The benchmark's result."""

    classifiers: tuple[Measured, ...]
    options: RobustnessOptions

    @property
    def agreements(self) -> dict[str, dict[str, Agreement]]:
        """Name of ``HEADLINE`` → ``all`` (pooled), ``within_pairs``, one per pair, ``fixed_dose`` (within pair and
        dose: over methods and seeds) and ``fixed_method`` (within pair and method: over doses and seeds).
        """
        rows, seed = self.classifiers, self.options.seed
        pair = [f"{r.target}_from_{r.shortcut}" for r in rows]
        planted = np.array([r.dose != CONTROL for r in rows])
        strata: dict[str, tuple[list[str], Floats]] = {
            "all": ([""] * len(rows), np.full(len(rows), True)),
            "within_pairs": (pair, np.full(len(rows), True)),
            **{p: (pair, np.array([q == p for q in pair])) for p in dict.fromkeys(pair)},
            "fixed_dose": ([f"{p}@{r.dose:g}" for p, r in zip(pair, rows, strict=True)], planted),
            "fixed_method": ([f"{p}.{r.method}" for p, r in zip(pair, rows, strict=True)], planted),
        }
        return {
            name: {
                kind: agreement(
                    np.where(counted, self._sizes(x), np.nan), np.where(counted, self._sizes(y), np.nan), of, seed=seed
                )
                for kind, (of, counted) in strata.items()
            }
            for name, (x, y) in HEADLINE.items()
        }  # fmt: skip

    @property
    def headline(self) -> dict[str, float]:
        """Names that programs rely on: rank correlations over all classifiers with intervals (``_low``, ``_high``), and
        their means within pairs and at fixed dose.
        """
        result: dict[str, float] = {"classifiers": len(self.classifiers)}
        for name, found in self.agreements.items():
            pooled = found["all"]
            result |= {name: pooled.rank, f"{name}_low": pooled.ci_low, f"{name}_high": pooled.ci_high}
            result |= {f"{name}_{kind}": found[kind].rank for kind in ("within_pairs", "fixed_dose")}
        return result

    @property
    def methods(self) -> tuple[Method, ...]:
        """Every method over all planted doses and at each, then the control."""
        wanted = [(m, dose) for m in self.options.methods for dose in (None, *self.options.doses)]
        return tuple(self._method(method, dose) for method, dose in [*wanted, ("erm", CONTROL)])

    def _method(self, method: str, dose: float | None) -> Method:
        rows = [
            r for r in self.classifiers
            if r.method == method and (r.dose == dose if dose is not None else r.dose != CONTROL)
        ]  # fmt: skip
        counts = bootstrap_counts(len(rows), resamples=2000, rng=generator(self.options.seed, method, str(dose)))
        means = {}
        for name in ("worst_group", "gap", "effect", "truth"):
            values = np.array([getattr(r, name) for r in rows], dtype=np.float64)
            drawn = counts @ values[:, None] / len(rows)
            low, high = percentile_interval(drawn if len(rows) > 1 else np.full((1, 1), np.nan))
            means[name] = (float(values.mean()), float(low[0]), float(high[0]))
        return Method(method, dose, len(rows), means)

    def _sizes(self, name: str) -> Floats:
        return np.abs(np.array([getattr(r, name) for r in self.classifiers], dtype=np.float64))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "headline": self.headline,
            "options": asdict(self.options),
            "agreements": {name: {k: asdict(a) for k, a in found.items()} for name, found in self.agreements.items()},
            "methods": [asdict(m) for m in self.methods],
            "classifiers": [asdict(r) for r in self.classifiers],
        }

    def lines(self) -> list[str]:
        """For the terminal: a table of methods, then the agreements."""
        columns = {"worst_group": "worst group", "gap": "gap", "effect": "effect", "truth": "true effect"}
        rows = [f"{'method':<12}{'dose':>5}{'n':>4}" + "".join(f"{title:>22}" for title in columns.values())]
        for m in self.methods:
            numbers = "".join("{:>8.3f} [{:.3f}, {:.3f}]".format(*m.means[k]).rjust(22) for k in columns)
            rows.append(f"{m.method:<12}{'all' if m.dose is None else f'{m.dose:g}':>5}{m.n:>4}{numbers}")
        rows.append(f"{'rank correlation':<20}{'within':<32}{'ρ':>6}  {'95 % interval':<16}{'n':>4}{'groups':>7}")
        for name, found in self.agreements.items():
            for kind, a in found.items():
                interval = f"[{a.ci_low:.2f}, {a.ci_high:.2f}]"
                rows.append(f"{name:<20}{kind:<32}{a.rank:>6.2f}  {interval:<16}{a.n:>4}{a.groups:>7}")
        return rows


def robustness(
    *,
    options: RobustnessOptions | None = None,
    models: str | Path | None = None,
    out: str | Path | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> Robustness:
    """Train what is missing, and measure every classifier.

    Args:
        options: pairs, doses, seeds, numbers of faces; ``QUICK`` for a small form.
        models: where trained classifiers are kept, below a folder that names the number of faces; the user's cache by
            default.
        out: where banks, audits and measurements are kept and found again; a temporary folder by default.
        workers: trainings at once.
        progress: called with (stage, done, total).

    RunMismatch: ``out`` holds measurements of other options or classifiers.
    """
    options = options or RobustnessOptions()
    if out is not None and Path(out).expanduser().is_file():
        raise BadInput(f"--out {out} is a file; name a folder to be made, or one of a run to resume.")
    kept_models = Path(models).expanduser() if models is not None else cache_folder() / "planted"
    place = kept_models / f"robust-{options.training_faces}"
    wanted = options.wanted()
    train_all_robust(wanted, place, workers=workers, progress=progress)
    independent = sample(options.independent, seed=options.seed + 80_000)
    images = render(independent)
    rows: list[Measured] = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary if out is None else out).expanduser()
        for number, (target, shortcut) in enumerate(options.pairs):
            progress("pairs", number, len(options.pairs))
            mine = [r for r in wanted if (r.plant.target, r.plant.shortcut) == (target, shortcut)]
            loaded = {r: load_robust(r, place) for r in mine}
            job = Pair(target, shortcut, loaded, options, options.seed + 70_000 + number)
            part = _staged(progress, f"{number + 1}/{len(options.pairs)}")
            rows += kept(job, (independent, images), folder / f"{target}_from_{shortcut}", part)
    progress("pairs", len(options.pairs), len(options.pairs))
    return Robustness(tuple(rows), options)


def _staged(progress: Progress, part: str) -> Progress:
    return lambda stage, done, total: progress(f"{stage} {part}", done, total)
