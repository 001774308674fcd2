"""Do estimated effects match interventions? Classifiers with planted shortcuts, on confounded images, all detectors.

The truth comes from do-interventions on the renderer: one factor switched, everything else fixed. The detectors see
only images on which target and shortcut go together, where plain correlation is misled. An effect depends on the faces
it is averaged over: where a shortcut is on, a classifier is saturated and other attributes do nothing. So there are two
truths: over faces whose attributes are independent, and over faces distributed as the audited images are ("here"),
which is what an audit of these images can know.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cfalign import autoencoders, classifiers
from cfalign._analysis.statistics import auroc, generator, percentile_interval
from cfalign._audit.reference import Reference, reference_of
from cfalign._errors import BadInput
from cfalign._models.downloads import cache_folder
from cfalign._models.fingerprint import fingerprint
from cfalign._results import Floats
from cfalign._runs.codec import as_json, write_json
from cfalign._runs.progress import Progress, silent
from cfalign._runs.record import refuse_other
from cfalign.benchmarks.detection.detectors import DETECTORS, Effort, Pair, Scene, Subject, measured, scene
from cfalign.benchmarks.interventions import Interventions
from cfalign.benchmarks.scoring import average_precision, pearson, rmse, spearman
from cfalign.synthetic import sample
from cfalign.training.processes import in_processes
from cfalign.training.recipes.planted_shortcuts import DOSES, PAIRS, SEEDS, Plant, load_plant, plant_all

CORRELATION = 0.9
"""Of target and shortcut on the images."""
USED = 0.1
"""An attribute is truly used when |effect by intervention| is above this."""
RESAMPLES = 300
TRUTHS = ("truth", "truth_here")


@dataclass(frozen=True)
class DetectionOptions:
    """What is measured."""

    pairs: tuple[tuple[str, str], ...] = PAIRS
    """(target, shortcut)"""
    doses: tuple[float, ...] = DOSES
    """Correlations in training; without any, the shipped classifiers (0.9) and their twins (0) are taken."""
    seeds: tuple[int, ...] = SEEDS
    effort: Effort = field(default_factory=Effort)
    seed: int = 0


QUICK = DetectionOptions(doses=(), effort=Effort(limit=12, faces=400, interventions_here=16, maps=2, derivatives=16))


@dataclass(frozen=True)
class Score:
    """One number with its 95 % bootstrap interval over classifiers."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Dose:
    """The shortcut at one dose: means over pairs and seeds."""

    target: str
    """A target, or "all"."""
    dose: float
    n: int
    effect: float
    truth: float
    truth_here: float
    outgoing: float


@dataclass(frozen=True)
class Detection:
    """The benchmark's result."""

    pairs: tuple[Pair, ...]
    options: DetectionOptions

    def column(self, name: str) -> Floats:
        """A number of every pair."""
        return np.array([getattr(p, name) for p in self.pairs], dtype=np.float64)

    @property
    def found(self) -> Floats:
        """Whether an audit reports the pair as a finding."""
        clear = (self.column("ci_low") > 0) | (self.column("ci_high") < 0)
        return np.asarray((self.column("q") < 0.05) & clear & (np.abs(self.column("effect")) >= USED))

    @cached_property
    def _scores(self) -> dict[tuple[str, str], dict[str, Score]]:
        return {(n, t): self._scores_of(n, t) for n in DETECTORS for t in TRUTHS}

    @cached_property
    def _rates(self) -> dict[str, dict[str, Score]]:
        return {t: self._rates_of(t) for t in TRUTHS}

    def scores(self, detector: str, truth: str = "truth") -> dict[str, Score]:
        """How well a detector's size tells used pairs from the others: ``auroc``, ``average_precision``, and ``rank``,
        Spearman's correlation of its size with that of the true effect.
        """
        return self._scores[detector, truth]

    def rates(self, truth: str = "truth") -> dict[str, Score]:
        """Of findings: ``power`` over all used pairs and at dose 0.9, ``false_alarm_rate`` over the unused; and how
        close the effect is: ``pearson``, ``rmse``, ``interval_coverage``.
        """
        return self._rates[truth]

    def _scores_of(self, detector: str, truth: str) -> dict[str, Score]:
        size, true = np.abs(self.column(detector)), np.abs(self.column(truth))
        known = np.isfinite(size)
        kinds: dict[str, Callable[[Floats, Floats], float]] = {
            "auroc": lambda s, t: auroc(s, (t > USED).astype(np.float64)),
            "average_precision": lambda s, t: average_precision(s, t > USED),
            "rank": lambda s, t: float(spearman(s, t)),
        }
        return {k: self._scored(lambda r, f=f: f(size[r], true[r]), known) for k, f in kinds.items()}  # type: ignore[misc]

    def _rates_of(self, truth: str) -> dict[str, Score]:
        effect, true, found = self.column("effect"), self.column(truth), self.found
        low, high = self.column("ci_low"), self.column("ci_high")
        used, strong = np.abs(true) > USED, self.column("dose") == 0.9
        shortcut = np.array([p.planted for p in self.pairs])
        covered = (low <= true) & (true <= high)
        kinds: dict[str, tuple[Callable[[Any], float], Any]] = {
            "power": (lambda r: _share(found[r]), used),
            "power_dose_0_9": (lambda r: _share(found[r]), used & strong & shortcut),
            "false_alarm_rate": (lambda r: _share(found[r]), ~used),
            "false_alarm_rate_correlated": (lambda r: _share(found[r]), ~used & shortcut),
            "pearson": (lambda r: pearson(effect[r], true[r]), np.isfinite(effect)),
            "rmse": (lambda r: rmse(effect[r], true[r]), np.isfinite(effect)),
            "interval_coverage": (lambda r: _share(covered[r]), np.isfinite(effect)),
            "interval_coverage_used": (lambda r: _share(covered[r]), np.isfinite(effect) & used),
        }
        return {name: self._scored(f, which) for name, (f, which) in kinds.items()}

    @cached_property
    def unplanted(self) -> Score:
        """Findings per audit of a classifier in which nothing was planted (dose 0); NaN without any."""
        found = self.found
        return self._scored(
            lambda r: float(found[r].sum() / max(1, len(r)) * self._attributes), self.column("dose") == 0.0
        )

    @property
    def _attributes(self) -> float:
        """Mean number of attributes that a classifier is audited against."""
        return len(self.pairs) / max(1, len({p.classifier for p in self.pairs}))

    def _scored(self, of: Callable[[Any], float], which: Any) -> Score:
        """A number of the pairs ``which`` with its interval; classifiers are drawn whole."""
        which = np.asarray(which, dtype=bool)
        owners: dict[str, list[int]] = {}
        for i in np.flatnonzero(which):
            owners.setdefault(self.pairs[i].classifier, []).append(int(i))
        groups = list(owners.values())
        if not groups:
            return Score(float("nan"), float("nan"), float("nan"))
        rng = generator(self.options.seed, "detection")
        drawn = [
            of(np.concatenate([groups[g] for g in rng.integers(0, len(groups), len(groups))]))
            for _ in range(RESAMPLES)
        ]  # fmt: skip
        low, high = percentile_interval(np.array(drawn)[:, None])
        return Score(of(np.flatnonzero(which)), float(low[0]), float(high[0]))

    @property
    def doses(self) -> tuple[Dose, ...]:
        """The shortcut at every dose, over all pairs and per target."""
        rows = [p for p in self.pairs if p.planted]
        targets = ("all", *dict.fromkeys(p.target for p in rows))
        return tuple(
            Dose(t, d, len(mine), *(_mean([getattr(p, k) for p in mine]) for k in (
                "effect", "truth", "truth_here", "outgoing")))
            for t in targets
            for d in sorted({p.dose for p in rows})
            if (mine := [p for p in rows if p.dose == d and t in ("all", p.target)])
        )  # fmt: skip

    @property
    def monotone(self) -> dict[str, bool]:
        """Target → whether the mean effect of its shortcut never falls from dose to dose by more than 0.02."""
        curves: dict[str, list[float]] = {}
        for d in self.doses:
            curves.setdefault(d.target, []).append(d.effect)
        return {t: bool((np.diff(c) >= -0.02).all()) for t, c in curves.items()}

    @property
    def headline(self) -> dict[str, float]:
        """Names that programs rely on; ``_here``: against the truth over faces distributed as the audited ones."""
        kinds = [p.kind(USED) for p in self.pairs]
        result: dict[str, float] = {"pairs": len(kinds), **{k: kinds.count(k) for k in ("used", "correlated")}}
        for truth, tail in zip(TRUTHS, ("", "_here"), strict=True):
            effect, rates = self.scores("effect", truth), self.rates(truth)
            result |= {
                f"auroc_used{tail}": effect["auroc"].value,
                f"average_precision_used{tail}": effect["average_precision"].value,
                f"rank_effect{tail}": effect["rank"].value,
                **{f"auroc_{n}{tail}": self.scores(n, truth)["auroc"].value for n in DETECTORS[1:]},
                **{{"pearson": "pearson_effect", "rmse": "rmse_effect"}.get(n, n) + tail: s.value
                   for n, s in rates.items()},
            }  # fmt: skip
        planted = [t for t in self.monotone if t != "all"]
        bare = len({p.classifier for p in self.pairs if p.dose == 0.0})
        result |= {"unplanted_audits": bare, "findings_per_unplanted_audit": self.unplanted.value}
        return result | {"targets": len(planted), "monotone_targets": sum(self.monotone[t] for t in planted)}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "headline": self.headline,
            "options": asdict(self.options),
            "detectors": {
                t: {n: {k: asdict(s) for k, s in self.scores(n, t).items()} for n in DETECTORS} for t in TRUTHS
            },
            "rates": {t: {k: asdict(s) for k, s in self.rates(t).items()} for t in TRUTHS},
            "doses": [asdict(d) for d in self.doses],
            "monotone": self.monotone,
            "pairs": [{**asdict(p), "kind": p.kind(USED)} for p in self.pairs],
        }

    def lines(self) -> list[str]:
        """For the terminal: detectors, rates and doses."""
        rows = [f"{'detector':<26}{'AUROC':>22}{'average precision':>24}{'rank correlation':>24}"]
        for name in DETECTORS:
            found = self.scores(name)
            rows.append(f"{name:<26}" + "".join(f"{_text(s):>23}" for s in found.values()))
        rows.append(f"{'findings and effects':<28}{'independent faces':>23}{'faces as audited':>24}")
        rates = [self.rates(t) for t in TRUTHS]
        rows += [f"{name:<28}" + "".join(f"{_text(r[name]):>24}" for r in rates) for name in rates[0]]
        rows.append(f"{'findings per unplanted audit':<28}{_text(self.unplanted):>24}")
        rows.append(f"{'target':<24}{'dose':>6}{'n':>4}{'effect':>9}{'truth':>8}{'here':>8}{'outgoing ψ':>12}")
        rows += [
            f"{d.target:<24}{d.dose:>6g}{d.n:>4}{d.effect:>+9.2f}{d.truth:>+8.2f}{d.truth_here:>+8.2f}{d.outgoing:>+12.2f}"
            for d in self.doses
        ]
        kinds = [p.kind(USED) for p in self.pairs]
        return [*rows, *(f"pairs {k}: {kinds.count(k)}" for k in ("used", "correlated", "neither"))]


def detection(
    *,
    options: DetectionOptions | None = None,
    reference: Reference | None = None,
    models: str | Path | None = None,
    out: str | Path | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> Detection:
    """Audit planted classifiers on confounded faces and compare every detector with interventions.

    Args:
        options: pairs, doses, seeds, effort; ``QUICK`` needs no training.
        reference: the heads to audit against, with a judge or without; the embedded ones by default.
        models: where trained classifiers are kept; the user's cache by default. What is missing is trained.
        out: where audits and measurements are kept and found again; a temporary folder by default.
        workers: processes at once, of one thread each, that train, and that measure if the reference is the default.

    RunMismatch: ``out`` holds measurements of other options or models.
    """
    options = options or DetectionOptions()
    if out is not None and Path(out).expanduser().is_file():
        raise BadInput(f"--out {out} is a file; name a folder to be made, or one of a run to resume.")
    stock = Path(models).expanduser() if models is not None else cache_folder() / "planted"
    plant_all(_plants(options, options.pairs), stock, workers=workers, progress=progress)
    pairs = [p for p in options.pairs if options.doses or "_from_".join(p) in classifiers.planted()]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary if out is None else out).expanduser()
        jobs = [(options, number, target, shortcut, stock, folder) for number, (target, shortcut) in enumerate(pairs)]
        if reference is None and workers > 1:
            in_processes(_measure, jobs, workers=workers, stage="pairs", progress=progress)
            progress = silent  # what follows is found in the folder
        rows: list[Pair] = []
        for done, job in enumerate(jobs):
            progress("pairs", done, len(jobs))
            tell = _staged(progress, f"{done + 1}/{len(jobs)}")
            rows += _measure(*job, reference=reference, progress=tell)
    progress("pairs", len(jobs), len(jobs))
    return Detection(tuple(rows), options)


def _measure(
    options: DetectionOptions,
    number: int,
    target: str,
    shortcut: str,
    stock: Path,
    folder: Path,
    *,
    reference: Reference | None = None,
    progress: Progress = silent,
) -> list[Pair]:
    """All that is measured of the classifiers of one target and shortcut, the one with this number."""
    subjects = _subjects(options, target, shortcut, stock)
    work = scene(
        target, shortcut, subjects, correlation=CORRELATION, faces=options.effort.faces,
        seed=options.seed + 20_000 + number,
    )  # fmt: skip
    against = reference or reference_of(classifiers.load("embedded"))

    def truth() -> dict[str, Floats]:
        independent = _independent(options.effort.interventions, options.seed + 30_000)
        table = independent.effects([s.classifier for s in subjects]).T
        return {s.name: row for s, row in zip(subjects, table, strict=True)}

    def make() -> list[Pair]:
        return measured(
            work, reference=against, autoencoder=autoencoders.load("embedded"), effort=options.effort, truth=truth,
            out=folder / work.title / "audit", progress=progress,
        )  # fmt: skip

    return kept(work, make, options.effort, against, folder / work.title)


@lru_cache(maxsize=1)
def _independent(faces: int, seed: int) -> Interventions:
    """Interventions on faces with independent attributes, which all pairs share; about 100 MB for 30 faces."""
    return Interventions.on_faces(sample(faces, seed=seed))


def _plants(options: DetectionOptions, pairs: Sequence[tuple[str, str]]) -> list[Plant]:
    return [Plant(t, s, d, k) for t, s in pairs for d in options.doses for k in options.seeds]


def _subjects(options: DetectionOptions, target: str, shortcut: str, stock: Path) -> list[Subject]:
    """The classifiers of a target and shortcut: trained ones, or those that are shipped."""
    if options.doses:
        wanted = _plants(options, [(target, shortcut)])
        return [Subject(p.name, load_plant(p, stock), p.dose, p.seed) for p in wanted]
    names = {f"{target}_from_{shortcut}": CORRELATION, f"{target}_from_{shortcut}_0": 0.0}
    return [Subject(n, classifiers.load(f"embedded:{n}"), dose, 0) for n, dose in names.items()]


def kept(
    work: Scene, make: Callable[[], list[Pair]], effort: Effort, reference: Reference, folder: Path
) -> list[Pair]:  # fmt: skip
    """The pairs of a scene, from ``folder`` where they are."""
    models = {s.name: s.classifier for s in work.subjects} | {"reference": reference.classifier}
    models |= {} if reference.judge is None else {"judge": reference.judge}
    settings = as_json({
        "effort": asdict(effort), "seed": work.seed, "models": {n: fingerprint(m) for n, m in models.items()},
    })  # fmt: skip
    file = folder / "pairs.json"
    if file.is_file():
        content = json.loads(file.read_text(encoding="utf-8"))
        refuse_other(content["settings"], settings, folder)
        return [_read(row) for row in content["pairs"]]
    rows = make()
    write_json(file, {"settings": settings, "pairs": [asdict(p) for p in rows]})
    return rows


def _read(row: Mapping[str, Any]) -> Pair:
    known: dict[str, Any] = {k: float("nan") if v is None else v for k, v in row.items()}  # JSON has no NaN
    return Pair(**known)


def _staged(progress: Progress, part: str) -> Progress:
    return lambda stage, done, total: progress(f"{stage} {part}", done, total)


def _share(flags: Floats) -> float:
    return float(np.mean(flags)) if len(flags) else float("nan")


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def _text(score: Score) -> str:
    return f"{score.value:.3f} [{score.ci_low:.3f}, {score.ci_high:.3f}]"
