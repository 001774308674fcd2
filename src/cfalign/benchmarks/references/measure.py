"""The run of the benchmark: train reference heads, audit against all of them, keep what is measured.

Reference heads of all attributes are trained on few faces on which ten pairs of attributes are correlated
(``recipes.imperfect_references``). The shipped planted classifiers and their twins are audited against them. The
audited faces are harder than those of ``detection``: the pairs of all classifiers are correlated on them at once. The
truth comes from interventions and is the same for all references.

Variants: heads by the embedded recipe without reconstructions (``plain``) and with (``reconstructed``), with labels
balanced by weights (``balanced``), and the latter two with a judge that was trained on other, equally confounded faces
(``judged``, ``balanced_judged``). ``embedded``: the shipped heads and oracle, which learnt from independent attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cfalign import autoencoders, classifiers
from cfalign._audit.audit import audit
from cfalign._audit.bank import bank
from cfalign._audit.conclusions import conclude
from cfalign._audit.options import AuditOptions
from cfalign._audit.reference import reference_of
from cfalign._heads.reference import Reference
from cfalign._models.downloads import cache_folder
from cfalign._results import Effect, Floats
from cfalign._runs.progress import Progress, ShowProgress, told_to, with_bars
from cfalign._runs.run import Run
from cfalign._types import Classifier
from cfalign.benchmarks.detection.options import CORRELATION
from cfalign.benchmarks.detection.result import DETECTORS, TRUTHS, AuditedPair
from cfalign.benchmarks.ledger import fingerprints, measured_once, numbers, staged, workplace
from cfalign.benchmarks.references.options import EMBEDDED, VARIANTS, ReferencesOptions, TrainingSet
from cfalign.benchmarks.references.reference_heads import IndependentFaces, ReferenceHead, known_heads
from cfalign.benchmarks.references.result import MeasuredReference, References
from cfalign.benchmarks.true_effects import Interventions
from cfalign.datasets import TensorImages
from cfalign.synthetic import DERIVED, INTERVENABLE, Faces, render, sample
from cfalign.training.processes import Workers
from cfalign.training.recipes.imperfect_references import load_reference, train_references

NOT_MEASURED = [name for name in DETECTORS if name not in ("effect", "incoming")] + ["outgoing_q"]
"""Detectors that an audit of a bank does not give."""
KNOWN_BY_THE_MODELS = ("points", "embedded", "pairs")
"""Options that the models of a part already identify."""


@with_bars
def references(
    *,
    options: ReferencesOptions | None = None,
    models: str | Path | None = None,
    out: str | Path | None = None,
    workers: Workers = 2,
    progress: ShowProgress = None,
) -> References:
    """Train the reference heads that are missing, and audit the shipped planted classifiers against all of them.

    Args:
        options: training sets, variants and numbers of faces; ``QUICK`` is a short form.
        models: folder of trained heads; the user's cache by default.
        out: folder of audits and measurements, which a later call reads; a temporary one by default.
        workers: parallel trainings; or the workers of Ray, ``cfa.engines.Ray()``.
        progress: True shows bars; a function is called with (stage, done, total).

    Raises BadInput if ``out`` is a file, and RunMismatch if it holds measurements of other options or models.
    """
    progress = told_to(progress)
    options = options or ReferencesOptions()
    place = Path(models).expanduser() if models is not None else cache_folder() / "planted" / "references"
    with workplace(out) as folder:
        train_references(options.networks(), place, workers=workers, progress=progress)
        jobs = _jobs(options, place)
        common = _CommonGround(options, progress)
        rows: list[MeasuredReference] = []
        for number, job in enumerate(jobs):
            progress("references", number, len(jobs))
            rows += _measured(job, common, folder / job.name, staged(progress, number, len(jobs)))
        progress("references", len(jobs), len(jobs))
    return References(tuple(rows), options)


@dataclass(frozen=True)
class _ReferenceJob:
    """One network of reference heads, its judge if any, and the variants that use them."""

    name: str
    dose: float
    faces: int
    variants: tuple[str, ...]
    reference: Reference

    def judged(self, variant: str) -> bool:
        """Whether the judge is asked under this variant."""
        return variant == EMBEDDED or VARIANTS[variant][1] is not None


def _jobs(options: ReferencesOptions, place: Path) -> list[_ReferenceJob]:
    shipped = reference_of(classifiers.load("embedded"))
    jobs = [_ReferenceJob(EMBEDDED, float("nan"), 0, (EMBEDDED,), shipped)] if options.embedded else []
    for point in options.points:
        networks = dict.fromkeys(VARIANTS[variant][0] for variant in point.variants)
        jobs += [_job(options, point, network, place) for network in networks]
    return jobs


def _job(options: ReferencesOptions, point: TrainingSet, network: str, place: Path) -> _ReferenceJob:
    variants = tuple(variant for variant in point.variants if VARIANTS[variant][0] == network)
    watchers = [name for variant in variants if (name := VARIANTS[variant][1]) is not None]
    heads = options.network(point, network)
    judge = load_reference(options.network(point, watchers[0]), place) if watchers else None
    return _ReferenceJob(heads.name, point.dose, point.faces, variants, Reference(load_reference(heads, place), judge))


@dataclass(frozen=True)
class _CommonGround:
    """Classifiers and faces that are audited against every reference, and their truth; computed on first use."""

    options: ReferencesOptions
    progress: Progress

    @cached_property
    def audited(self) -> tuple[Classifier, ...]:
        """The shipped classifiers of the pairs and their twins."""
        wanted = {f"{target}_from_{shortcut}" for target, shortcut in self.options.pairs}
        names = [name for name in classifiers.planted() if name.removesuffix("_0") in wanted]
        return tuple(classifiers.load(f"embedded:{name}") for name in names)

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(attribute for attribute in INTERVENABLE if attribute not in DERIVED)

    @property
    def audit(self) -> AuditOptions:
        return AuditOptions(limit=self.options.limit, seed=self.options.seed + 90_000, shown=0)

    @cached_property
    def faces(self) -> Faces:
        """Faces on which all pairs are correlated."""
        together = dict.fromkeys(self.options.pairs, CORRELATION)
        return sample(self.options.audited, seed=self.options.seed + 90_000, correlations=together)

    @cached_property
    def independent(self) -> IndependentFaces:
        drawn = sample(self.options.independent, seed=self.options.seed + 95_000)
        return IndependentFaces(render(drawn), drawn.labels(), self._switched(drawn, TRUTHS[0]))

    @cached_property
    def truth(self) -> dict[str, Floats]:
        """By name of ``TRUTHS``: true effects [attribute, classifier]."""
        chosen = [INTERVENABLE.index(attribute) for attribute in self.attributes]
        both = (self.independent.interventions, self._switched(self.faces, TRUTHS[1]))
        return {name: made.effects(self.audited)[chosen] for name, made in zip(TRUTHS, both, strict=True)}

    def _switched(self, faces: Faces, stage: str) -> Interventions:
        return Interventions.on_faces(faces[: self.options.interventions], progress=self.progress, stage=stage)


def _measured(job: _ReferenceJob, common: _CommonGround, folder: Path, progress: Progress) -> list[MeasuredReference]:
    """All variants of a job, read from ``folder`` if it holds them; RunMismatch if it holds others."""
    models = {model.name: model for model in (*common.audited, job.reference.classifier)}
    if job.reference.judge is not None:
        models[job.reference.judge.name] = job.reference.judge
    options = {name: value for name, value in asdict(common.options).items() if name not in KNOWN_BY_THE_MODELS}
    settings = {"options": options, "variants": list(job.variants), "models": fingerprints(models)}

    def measure() -> dict[str, Any]:
        return {m.variant: asdict(m) for m in _audited(job, common, folder, progress)}

    rows = measured_once(folder / "measured.json", settings, "variants", measure)
    return [_read(job, variant, rows[variant]) for variant in job.variants]


def _read(job: _ReferenceJob, variant: str, row: Mapping[str, Any]) -> MeasuredReference:
    heads = [ReferenceHead(**{**numbers(head), "checks": numbers(head["checks"])}) for head in row["heads"]]
    pairs = [AuditedPair(**numbers(pair)) for pair in row["pairs"]]
    return MeasuredReference(job.dose, job.faces, variant, tuple(pairs), tuple(heads))


def _audited(job: _ReferenceJob, common: _CommonGround, folder: Path, progress: Progress) -> list[MeasuredReference]:
    images = TensorImages(render(common.faces))
    made = bank(
        images,
        job.reference,
        autoencoder=autoencoders.load("embedded"),
        options=common.audit,
        out=folder / "bank",
        progress=progress,
    )
    run = audit(made, common.audited, options=common.audit, out=folder / "audit", progress=progress)
    heads = known_heads(job.reference.classifier, run, common.audit, faces=common.independent)
    return [
        MeasuredReference(job.dose, job.faces, variant, _pairs(run, common, judged=job.judged(variant)), heads)
        for variant in job.variants
    ]


def _pairs(run: Run, common: _CommonGround, *, judged: bool) -> tuple[AuditedPair, ...]:
    """Effects and truth; without ``judged`` the run's judge is ignored."""
    effects = {(effect.audited, effect.attribute): effect for effect in _effects(run, common.audit, judged=judged)}
    result = []
    for i, (label, classifier) in enumerate(zip(run.record()["audited"], common.audited, strict=True)):
        target, shortcut = classifier.name.removesuffix("_0").split("_from_")
        for j, attribute in enumerate(common.attributes):
            if attribute == target:
                continue
            found = effects[label, attribute]
            pair = AuditedPair(
                classifier=classifier.name,
                target=target,
                shortcut=shortcut,
                dose=0.0 if classifier.name.endswith("_0") else CORRELATION,
                seed=0,
                attribute=attribute,
                truth=float(common.truth["truth"][j, i]),
                truth_here=float(common.truth["truth_here"][j, i]),
                effect=found.effect,
                ci_low=found.ci_low,
                ci_high=found.ci_high,
                q=found.q,
                incoming=found.incoming,
                **dict.fromkeys(NOT_MEASURED, float("nan")),
            )
            result.append(pair)
    return tuple(result)


def _effects(run: Run, options: AuditOptions, *, judged: bool) -> Sequence[Effect]:
    """The run's effects; without ``judged`` they are solved again as if the run had no judge."""
    content = run.record()
    if judged or not content["judges"]:
        return run.rows(Effect)
    parts = {name: content[name] for name in ("bases", "heads", "audited", "attributes")}
    return conclude(run, **parts, options=options, judges={}).effects
