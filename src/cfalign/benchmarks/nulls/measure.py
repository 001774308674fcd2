"""Audit classifiers with nothing to find: named effects through one bank, unnamed features all at once."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from cfalign import autoencoders, classifiers
from cfalign._audit.audit import audit
from cfalign._audit.bank import Bank, bank
from cfalign._audit.options import AuditOptions
from cfalign._audit.reference import reference_of
from cfalign._audit.subject import against_reference
from cfalign._audit.unnamed import sought_in
from cfalign._discovery.options import DiscoveryOptions
from cfalign._findings import UnnamedFeature
from cfalign._heads.reference import Reference
from cfalign._models.downloads import cache_folder
from cfalign._results import Effect, Floats
from cfalign._runs.progress import Progress, ShowProgress, told_to, with_bars
from cfalign._types import Classifier
from cfalign.benchmarks.ledger import fingerprints, measured_once, numbers, workplace
from cfalign.benchmarks.nulls.options import NullsOptions
from cfalign.benchmarks.nulls.result import ZERO, NullAudit, Nulls
from cfalign.benchmarks.true_effects import Interventions
from cfalign.datasets import TensorImages
from cfalign.synthetic import INTERVENABLE, render, sample
from cfalign.training.processes import Workers
from cfalign.training.recipes.nulls import NullClassifier, load_null, make_all
from cfalign.training.recipes.nulls import nulls as null_classifiers


@with_bars
def nulls(
    *,
    options: NullsOptions | None = None,
    models: str | Path | None = None,
    out: str | Path | None = None,
    workers: Workers = 2,
    progress: ShowProgress = None,
) -> Nulls:
    """Audit untrained networks, networks trained on permuted labels, and unplanted ones.

    Args:
        options: how many of each, and the effort.
        models: folder of the classifiers; the user's cache by default. Missing ones are made.
        out: folder of the bank and of measurements, which a later call reads; a temporary one by default.
        workers: parallel processes of one thread each, for training; or the workers of Ray, ``cfa.engines.Ray()``.
        progress: True shows bars; a function is called with (stage, done, total).

    Raises BadInput if ``out`` is a file, and RunMismatch if it holds measurements of other options or models.
    """
    progress = told_to(progress)
    options = options or NullsOptions()
    stock = Path(models).expanduser() if models is not None else cache_folder() / "nulls"
    wanted = null_classifiers(options.each)
    make_all(wanted, stock, workers=workers, progress=progress)
    subjects = {one: load_null(one, stock) for one in wanted}
    embedded = reference_of(classifiers.load("embedded"))
    settings = {
        "options": asdict(options),
        "models": fingerprints({**{one.name: c for one, c in subjects.items()}, "reference": embedded.classifier}),
    }
    with workplace(out) as folder:

        def measure() -> list[dict[str, Any]]:
            return [asdict(row) for row in _measured(subjects, embedded, options, folder, progress)]

        rows = measured_once(folder / "audits.json", settings, "audits", measure)
    return Nulls(tuple(NullAudit(**numbers(row)) for row in rows), options)


def _measured(
    subjects: dict[NullClassifier, Classifier],
    embedded: Reference,
    options: NullsOptions,
    folder: Path,
    progress: Progress,
) -> list[NullAudit]:
    faces = TensorImages(render(sample(options.faces, seed=options.seed + 70_000)))
    chosen = AuditOptions(limit=options.limit, shown=0, seed=options.seed)
    made = bank(
        faces,
        embedded,
        autoencoder=autoencoders.load("embedded"),
        options=chosen,
        out=folder / "bank",
        progress=progress,
    )
    known = _unnamed(list(subjects.values()), embedded, faces, options, progress)
    truth = Interventions.on_faces(sample(options.interventions, seed=options.seed + 30_000))
    rows = []
    for number, (null, classifier) in enumerate(subjects.items()):
        progress("audits", number, len(subjects))
        true = truth.effects([classifier])[:, 0]
        rows.append(_audited(null, classifier, made, chosen, true, known[number], folder))
    progress("audits", len(subjects), len(subjects))
    return rows


def _unnamed(
    subjects: list[Classifier],
    embedded: Reference,
    faces: TensorImages,
    options: NullsOptions,
    progress: Progress,
) -> tuple[UnnamedFeature, ...]:
    """The first unnamed feature of every classifier; none depends on who else is audited, but for q."""
    alone = against_reference(subjects, embedded.classifier, bases=None, downstream=None, estimating=False)
    return sought_in(
        faces,
        alone.judged_by(embedded.judge),
        autoencoder=autoencoders.load("embedded"),
        options=AuditOptions(seed=options.seed, discovery=DiscoveryOptions(features=1, images=options.faces)),
        positions=range(len(faces.ids)),
        progress=progress,
    ).discovery.features


def _audited(
    null: NullClassifier,
    classifier: Classifier,
    made: Bank,
    chosen: AuditOptions,
    true: Floats,
    feature: UnnamedFeature,
    folder: Path,
) -> NullAudit:
    run = audit(made, classifier, options=chosen, out=folder / "audits" / null.name)
    zero = {name for name, effect in zip(INTERVENABLE, true.tolist(), strict=True) if abs(effect) < ZERO}
    effects = [e for e in run.rows(Effect) if e.attribute in zero and not e.own and e.ci_low <= e.ci_high]
    findings = run.findings()
    first = f"{findings[0]['attribute']} {findings[0]['effect']:+.2f}" if findings else ""
    return NullAudit(
        name=null.name,
        kind=null.kind,
        findings=len(findings),
        first=first,
        unnamed=feature.found,
        unnamed_effect=feature.effect,
        unnamed_explains=feature.explains,
        intervals=len(effects),
        held=sum(e.ci_low <= 0 <= e.ci_high for e in effects),
    )
