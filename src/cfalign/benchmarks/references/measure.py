"""What do effects say when the reference heads themselves were learnt from confounded images, and what repairs that?

Reference heads of all attributes are trained on few faces on which ten pairs of attributes go together
(``recipes.imperfect_references``), and stand under an audit of the shipped planted classifiers and their twins. The
faces that are audited are harder than those of ``detection``: the pairs of all classifiers go together on them at
once. The truth comes from interventions and is the same for all references.

Variants: heads by the embedded recipe without reconstructions (``plain``) and with (``reconstructed``), with labels
balanced by weights (``balanced``), and the latter two with a judge that was trained on other faces, as confounded
(``judged``, ``balanced_judged``). ``embedded``: the shipped heads and oracle, learnt from independent attributes. A
choice of ridge, which the issue was first tried with, is no variant: effects are solved under a horseshoe prior, whose
strength the data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cfalign import autoencoders, classifiers
from cfalign._audit.audit import audit
from cfalign._audit.bank import bank
from cfalign._audit.conclusions import conclude
from cfalign._audit.options import AuditOptions
from cfalign._audit.reference import Reference, reference_of
from cfalign._errors import BadInput
from cfalign._models.downloads import cache_folder
from cfalign._models.fingerprint import fingerprint
from cfalign._results import Effect, Floats
from cfalign._runs.codec import as_json, write_json
from cfalign._runs.progress import Progress, silent
from cfalign._runs.record import refuse_other
from cfalign._runs.run import Run
from cfalign._types import Classifier
from cfalign.benchmarks.detection.detectors import DETECTORS, Pair
from cfalign.benchmarks.detection.measure import TRUTHS
from cfalign.benchmarks.interventions import Interventions
from cfalign.benchmarks.references.reference_heads import Head, Material, known_heads
from cfalign.benchmarks.references.result import (
    EMBEDDED,
    QUICK,
    VARIANTS,
    Measured,
    Point,
    References,
    ReferencesOptions,
)
from cfalign.datasets import TensorImages
from cfalign.synthetic import DERIVED, INTERVENABLE, Faces, render, sample
from cfalign.training.recipes.imperfect_references import load_reference, train_references

__all__ = ["QUICK", "Measured", "Point", "References", "ReferencesOptions", "references"]

CORRELATION = 0.9
"""Of target and shortcut of every audited classifier on the audited faces."""


def references(
    *,
    options: ReferencesOptions | None = None,
    models: str | Path | None = None,
    out: str | Path | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> References:
    """Train the reference heads that are missing, and audit the shipped planted classifiers against all of them.

    Args:
        options: training sets, variants, numbers of faces; ``QUICK`` for a small form.
        models: where trained heads are kept; the user's cache by default.
        out: where audits and measurements are kept and found again; a temporary folder by default.
        workers: trainings at once.
        progress: called with (stage, done, total).

    RunMismatch: ``out`` holds measurements of other options or models.
    """
    options = options or ReferencesOptions()
    if out is not None and Path(out).expanduser().is_file():
        raise BadInput(f"--out {out} is a file; name a folder to be made, or one of a run to resume.")
    place = Path(models).expanduser() if models is not None else cache_folder() / "planted" / "references"
    wanted = [options.network(p, n) for p in options.points for v in p.variants for n in VARIANTS[v] if n is not None]
    train_references(wanted, place, workers=workers, progress=progress)
    jobs = _jobs(options, place)
    rows: list[Measured] = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary if out is None else out).expanduser()
        scene = _Scene(options, progress)
        for number, job in enumerate(jobs):
            progress("references", number, len(jobs))
            rows += _kept(job, scene, folder / job.name, _staged(progress, f"{number + 1}/{len(jobs)}"))
    progress("references", len(jobs), len(jobs))
    return References(tuple(rows), options)


@dataclass(frozen=True)
class _Job:
    """One network of reference heads, its judge if any, and the variants that stand on it."""

    name: str
    dose: float
    faces: int
    variants: tuple[str, ...]
    reference: Reference


def _jobs(options: ReferencesOptions, place: Path) -> list[_Job]:
    shipped = _Job(EMBEDDED, float("nan"), 0, (EMBEDDED,), reference_of(classifiers.load("embedded")))
    jobs = [shipped] if options.embedded else []
    for p in options.points:
        for network in dict.fromkeys(VARIANTS[v][0] for v in p.variants):
            variants = tuple(v for v in p.variants if VARIANTS[v][0] == network)
            judge = next((j for v in variants if (j := VARIANTS[v][1]) is not None), None)
            heads = options.network(p, network)
            watcher = None if judge is None else load_reference(options.network(p, judge), place)
            known = Reference(load_reference(heads, place), watcher)
            jobs.append(_Job(heads.name, p.dose, p.faces, variants, known))
    return jobs


@dataclass(frozen=True)
class _Scene:
    """What is audited, and the truth about it, which is made when it is first asked for."""

    options: ReferencesOptions
    progress: Progress

    @cached_property
    def audited(self) -> tuple[Classifier, ...]:
        wanted = {f"{t}_from_{s}" for t, s in self.options.pairs}
        names = [n for n in classifiers.planted() if n.removesuffix("_0") in wanted]
        return tuple(classifiers.load(f"embedded:{n}") for n in names)

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(a for a in INTERVENABLE if a not in DERIVED)

    @property
    def audit(self) -> AuditOptions:
        return AuditOptions(limit=self.options.limit, seed=self.options.seed + 90_000, shown=0)

    @cached_property
    def faces(self) -> Faces:
        together = dict.fromkeys(self.options.pairs, CORRELATION)
        return sample(self.options.audited, seed=self.options.seed + 90_000, correlations=together)

    @cached_property
    def material(self) -> Material:
        independent = sample(self.options.independent, seed=self.options.seed + 95_000)
        return Material(render(independent), independent.labels(), self._switched(independent, TRUTHS[0]))

    @cached_property
    def truth(self) -> dict[str, Floats]:
        """By ``TRUTHS``, [attribute, classifier]."""
        chosen = [INTERVENABLE.index(a) for a in self.attributes]
        both = (self.material.interventions, self._switched(self.faces, TRUTHS[1]))
        return {t: made.effects(self.audited)[chosen] for t, made in zip(TRUTHS, both, strict=True)}

    def _switched(self, faces: Faces, stage: str) -> Interventions:
        return Interventions.on_faces(faces[: self.options.interventions], progress=self.progress, stage=stage)


_TOLD_OTHERWISE = ("points", "embedded", "pairs")
"""By a job's models."""


def _kept(job: _Job, scene: _Scene, folder: Path, progress: Progress) -> list[Measured]:
    """The measurements, from ``folder`` where they are; RunMismatch where it holds others."""
    models = [*scene.audited, job.reference.classifier]
    models += [] if job.reference.judge is None else [job.reference.judge]
    options = {k: v for k, v in asdict(scene.options).items() if k not in _TOLD_OTHERWISE}
    settings = as_json({
        "options": options, "variants": list(job.variants), "models": {m.name: fingerprint(m) for m in models},
    })  # fmt: skip
    file = folder / "measured.json"
    if file.is_file():
        content = json.loads(file.read_text(encoding="utf-8"))
        refuse_other(content["settings"], settings, folder)
    else:
        rows = {m.variant: asdict(m) for m in _measured(job, scene, folder, progress)}
        write_json(file, {"settings": settings, "variants": rows})
        content = as_json({"variants": rows})
    return [_read(job, variant, content["variants"][variant]) for variant in job.variants]


def _read(job: _Job, variant: str, row: Mapping[str, Any]) -> Measured:
    heads = tuple(Head(**{**_numbers(h), "checks": _numbers(h["checks"])}) for h in row["heads"])
    return Measured(job.dose, job.faces, variant, tuple(Pair(**_numbers(p)) for p in row["pairs"]), heads)


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: float("nan") if v is None else v for k, v in row.items()}  # JSON has no NaN


def _measured(job: _Job, scene: _Scene, folder: Path, progress: Progress) -> list[Measured]:
    made = bank(
        TensorImages(render(scene.faces)), job.reference, autoencoder=autoencoders.load("embedded"),
        options=scene.audit, out=folder / "bank", progress=progress,
    )  # fmt: skip
    run = audit(made, scene.audited, options=scene.audit, out=folder / "audit", progress=progress)
    heads = known_heads(job.reference.classifier, run, scene.audit, material=scene.material)
    judged = {v: job.variants == (EMBEDDED,) or VARIANTS[v][1] is not None for v in job.variants}
    return [Measured(job.dose, job.faces, v, _pairs(run, scene, judged=judged[v]), heads) for v in job.variants]


def _pairs(run: Run, scene: _Scene, *, judged: bool) -> tuple[Pair, ...]:
    """Effects beside the truth; without ``judged`` the judge that the run has is not asked."""
    content = run.record()
    rows: Sequence[Effect]
    if judged or not content["judges"]:
        rows = [Effect(**_numbers(r)) for r in run.effects().to_dicts()]
    else:
        parts = {k: content[k] for k in ("bases", "heads", "audited", "attributes")}
        rows = conclude(run, **parts, options=scene.audit, judges={}).effects
    table = {(r.audited, r.attribute): r for r in rows}
    unknown = dict.fromkeys([d for d in DETECTORS if d not in ("effect", "incoming")] + ["outgoing_q"], float("nan"))
    result = []
    for i, (label, classifier) in enumerate(zip(content["audited"], scene.audited, strict=True)):
        target, shortcut = classifier.name.removesuffix("_0").split("_from_")
        dose = 0.0 if classifier.name.endswith("_0") else CORRELATION
        for j, attribute in enumerate(scene.attributes):
            if attribute == target:
                continue
            r = table[label, attribute]
            found = {"effect": r.effect, "ci_low": r.ci_low, "ci_high": r.ci_high, "q": r.q, "incoming": r.incoming}
            truth, here = (float(scene.truth[t][j, i]) for t in TRUTHS)
            result.append(Pair(classifier.name, target, shortcut, dose, 0, attribute, truth, here, **found, **unknown))
    return tuple(result)


def _staged(progress: Progress, part: str) -> Progress:
    return lambda stage, done, total: progress(f"{stage} {part}", done, total)
