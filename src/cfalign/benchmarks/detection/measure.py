"""The run of the benchmark: train missing classifiers, measure every pair of target and shortcut, keep the results.

The truth comes from interventions on the renderer: one attribute is switched, everything else is fixed. The detectors
see only images on which target and shortcut are correlated, where plain correlation misleads. An effect depends on the
faces that it is averaged over: where a shortcut is on, a classifier is saturated and other attributes have no effect.
Therefore there are two truths: over faces with independent attributes, and over faces distributed as the audited images
("here"). An audit of these images can only know the second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from cfalign import autoencoders, classifiers
from cfalign._audit.reference import reference_of
from cfalign._heads.reference import Reference
from cfalign._models.downloads import cache_folder
from cfalign._results import Floats
from cfalign._runs.progress import Progress, ShowProgress, silent, told_to, with_bars
from cfalign.benchmarks.detection.detectors import PlantedClassifier, ShortcutFaces, detect
from cfalign.benchmarks.detection.options import CORRELATION, DetectionOptions, Effort
from cfalign.benchmarks.detection.result import AuditedPair, Detection
from cfalign.benchmarks.ledger import fingerprints, measured_once, numbers, staged, workplace
from cfalign.benchmarks.true_effects import Interventions
from cfalign.synthetic import sample
from cfalign.training.processes import Workers, in_processes
from cfalign.training.recipes.planted_shortcuts import Plant, load_plant, plant_all


@with_bars
def detection(
    *,
    options: DetectionOptions | None = None,
    reference: Reference | None = None,
    models: str | Path | None = None,
    out: str | Path | None = None,
    workers: Workers = 2,
    progress: ShowProgress = None,
) -> Detection:
    """Audit planted classifiers on confounded faces and compare every detector with interventions.

    Args:
        options: pairs, doses, seeds, effort; ``QUICK`` needs no training.
        reference: the reference heads, with or without a judge; the embedded ones by default.
        models: folder of trained classifiers; the user's cache by default. Missing ones are trained.
        out: folder of audits and measurements, which a later call reads; a temporary one by default.
        workers: parallel processes of one thread each, for training, and for measuring with the default reference; or
            the workers of Ray, ``cfa.engines.Ray()``.
        progress: True shows bars; a function is called with (stage, done, total).

    Raises BadInput if ``out`` is a file, and RunMismatch if it holds measurements of other options or models.
    """
    progress = told_to(progress)
    options = options or DetectionOptions()
    with workplace(out) as folder:
        stock = Path(models).expanduser() if models is not None else cache_folder() / "planted"
        every = [plant for target, shortcut in options.pairs for plant in _plants(options, target, shortcut)]
        plant_all(every, stock, workers=workers, progress=progress)
        jobs = _jobs(options, stock, folder)
        if reference is None and workers != 1:
            measured = [(job,) for job in jobs]
            in_processes(_measure, measured, workers=workers, stage="pairs", folder=folder, progress=progress)
            progress = silent  # the loop below reads what the processes measured
        rows: list[AuditedPair] = []
        for done, job in enumerate(jobs):
            progress("pairs", done, len(jobs))
            rows += _measure(job, reference=reference, progress=staged(progress, done, len(jobs)))
        progress("pairs", len(jobs), len(jobs))
    return Detection(tuple(rows), options)


@dataclass(frozen=True)
class _DetectionJob:
    """One target and shortcut to measure."""

    options: DetectionOptions
    target: str
    shortcut: str
    seed: int
    """Seed of the confounded faces."""
    stock: Path
    """Folder of trained classifiers."""
    folder: Path
    """Folder of the benchmark."""


def _jobs(options: DetectionOptions, stock: Path, folder: Path) -> list[_DetectionJob]:
    """One job per pair; without doses only for pairs with a shipped classifier."""
    shipped = classifiers.planted()
    pairs = [pair for pair in options.pairs if options.doses or "_from_".join(pair) in shipped]
    first = options.seed + 20_000
    return [
        _DetectionJob(options, target, shortcut, first + number, stock, folder)
        for number, (target, shortcut) in enumerate(pairs)
    ]


def _measure(
    job: _DetectionJob, *, reference: Reference | None = None, progress: Progress = silent
) -> list[AuditedPair]:
    """The audited pairs of one target and shortcut."""
    options, effort = job.options, job.options.effort
    subjects = _subjects(options, job.target, job.shortcut, job.stock)
    confounded = ShortcutFaces.drawn(job.target, job.shortcut, subjects, faces=effort.faces, seed=job.seed)
    against = reference or reference_of(classifiers.load("embedded"))
    place = job.folder / confounded.title

    def truth() -> dict[str, Floats]:
        independent = _independent(effort.interventions, options.seed + 30_000)
        table = independent.effects(confounded.classifiers).T
        return {subject.name: row for subject, row in zip(subjects, table, strict=True)}

    def detected() -> list[AuditedPair]:
        return detect(
            confounded,
            reference=against,
            autoencoder=autoencoders.load("embedded"),
            effort=effort,
            truth=truth,
            out=place / "audit",
            progress=progress,
        )

    return pairs_once(confounded, detected, effort, against, place)


@lru_cache(maxsize=1)
def _independent(faces: int, seed: int) -> Interventions:
    """Interventions on faces with independent attributes, shared by all pairs; about 100 MB for 30 faces."""
    return Interventions.on_faces(sample(faces, seed=seed))


def _plants(options: DetectionOptions, target: str, shortcut: str) -> list[Plant]:
    return [Plant(target, shortcut, dose, seed) for dose in options.doses for seed in options.seeds]


def _subjects(options: DetectionOptions, target: str, shortcut: str, stock: Path) -> list[PlantedClassifier]:
    """The classifiers of a target and shortcut: the trained ones, or the shipped ones without doses."""
    if options.doses:
        wanted = _plants(options, target, shortcut)
        return [PlantedClassifier(plant.name, load_plant(plant, stock), plant.dose, plant.seed) for plant in wanted]
    names = {f"{target}_from_{shortcut}": CORRELATION, f"{target}_from_{shortcut}_0": 0.0}
    return [PlantedClassifier(name, classifiers.load(f"embedded:{name}"), dose, 0) for name, dose in names.items()]


def pairs_once(
    confounded: ShortcutFaces,
    detected: Callable[[], list[AuditedPair]],
    effort: Effort,
    reference: Reference,
    folder: Path,
) -> list[AuditedPair]:
    """The pairs that ``detected`` returns, read from ``folder`` if it holds them.

    Raises RunMismatch if the folder holds pairs of other models or settings.
    """
    models = {subject.name: subject.classifier for subject in confounded.subjects}
    models["reference"] = reference.classifier
    if reference.judge is not None:
        models["judge"] = reference.judge
    settings: dict[str, Any] = {
        "effort": asdict(effort),
        "seed": confounded.seed,
        "models": fingerprints(models),
    }

    def measure() -> list[dict[str, Any]]:
        return [asdict(pair) for pair in detected()]

    rows = measured_once(folder / "pairs.json", settings, "pairs", measure)
    return [AuditedPair(**numbers(row)) for row in rows]
