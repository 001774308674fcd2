"""Audit planted classifiers without the head of their shortcut, and compare what is found with the true shortcut."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfalign import autoencoders, classifiers
from cfalign._analysis.statistics import auroc
from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._audit.reference import reference_of
from cfalign._audit.subject import against_reference, owners_of
from cfalign._audit.unnamed import Sought, sought_in
from cfalign._counterfactuals.batch import float64
from cfalign._counterfactuals.origins import metric_of
from cfalign._discovery.naming import NamedFeature, name_feature
from cfalign._discovery.options import DiscoveryOptions
from cfalign._heads.reference import Reference
from cfalign._models.autoencoding import encoded
from cfalign._models.downloads import cache_folder
from cfalign._models.passes import in_passes
from cfalign._results import Effect, Floats
from cfalign._runs.progress import ShowProgress, told_to, with_bars
from cfalign._types import Classifier
from cfalign.benchmarks.ledger import fingerprints, measured_once, numbers, workplace
from cfalign.benchmarks.true_effects import Interventions
from cfalign.benchmarks.unnamed.options import UnnamedOptions
from cfalign.benchmarks.unnamed.result import Unnamed, UnnamedShortcut
from cfalign.classifiers import JoinedClassifier
from cfalign.datasets import TensorImages
from cfalign.synthetic import ATTRIBUTES, INTERVENABLE, render, sample
from cfalign.training.processes import Workers, in_processes
from cfalign.training.recipes.planted_shortcuts import Plant, load_plant, plant_all, plants

FURTHEST = 10


@with_bars
def unnamed(
    *,
    options: UnnamedOptions | None = None,
    models: str | Path | None = None,
    out: str | Path | None = None,
    workers: Workers = 2,
    progress: ShowProgress = None,
) -> Unnamed:
    """Audit planted classifiers on independent faces, with the head of their shortcut left out of the references.

    Args:
        options: pairs, doses, seeds, effort.
        models: folder of trained classifiers; the user's cache by default. Missing ones are trained.
        out: folder of measurements, which a later call reads; a temporary one by default.
        workers: parallel processes of one thread each; or the workers of Ray, ``cfa.engines.Ray()``.
        progress: True shows bars; a function is called with (stage, done, total).

    Raises BadInput if ``out`` is a file, and RunMismatch if it holds measurements of other options or models.
    """
    progress = told_to(progress)
    options = options or UnnamedOptions()
    stock = Path(models).expanduser() if models is not None else cache_folder() / "planted"
    wanted = plants(pairs=options.pairs, doses=options.doses, seeds=options.seeds)
    plant_all(wanted, stock, workers=workers, progress=progress)
    with workplace(out) as folder:
        jobs = [_Job(one, options, stock, folder) for one in wanted]
        given = [(job,) for job in jobs]
        in_processes(_measured, given, workers=workers, stage="classifiers", folder=folder, progress=progress)
        rows = tuple(_measured(job) for job in jobs)
    return Unnamed(rows, options)


@dataclass(frozen=True)
class _Job:
    plant: Plant
    options: UnnamedOptions
    stock: Path
    folder: Path


def _measured(job: _Job) -> UnnamedShortcut:
    """The row of one classifier, read from the folder if it is there."""
    classifier = load_plant(job.plant, job.stock)
    embedded = reference_of(classifiers.load("embedded"))
    assert embedded.judge is not None
    models = {"audited": classifier, "reference": embedded.classifier, "judge": embedded.judge}
    effort = {k: v for k, v in asdict(job.options).items() if k not in ("pairs", "doses", "seeds")}
    settings = {"plant": asdict(job.plant), "effort": effort, "models": fingerprints(models)}
    place = job.folder / job.plant.name

    def measure() -> dict[str, Any]:
        return asdict(_row(job, classifier, embedded, place))

    return UnnamedShortcut(**numbers(measured_once(place / "row.json", settings, "row", measure)))


def _row(job: _Job, classifier: Classifier, embedded: Reference, place: Path) -> UnnamedShortcut:
    plant, options = job.plant, job.options
    known = [target for target in embedded.classifier.targets if target != plant.shortcut]
    truth = _interventions(options.interventions, options.seed).effects([classifier])
    faces = _faces(options.images, options.seed)
    sought = _sought(classifier, embedded, known, faces, options)
    feature = sought.discovery.features[0]
    ordered, there = _ordered(sought, plant.shortcut, options)
    furthest = np.argsort(-ordered)[:FURTHEST]
    nan = float("nan")
    effect = None
    if options.named and feature.found and plant.dose:
        effect = _named_effect(classifier, embedded, known, faces, options, place)
    return UnnamedShortcut(
        name=plant.name,
        target=plant.target,
        shortcut=plant.shortcut,
        dose=plant.dose,
        seed=plant.seed,
        truth=float(truth[INTERVENABLE.index(plant.shortcut), 0]),
        auroc=auroc(ordered, there),
        precision_at_10=float(there[furthest].mean()),
        effect=feature.effect,
        ci_low=feature.ci_low,
        ci_high=feature.ci_high,
        q=feature.q,
        unexplained=feature.unexplained,
        explains=feature.explains,
        agreement=feature.agreement,
        found=feature.found,
        named_effect=nan if effect is None else effect.effect,
        named_low=nan if effect is None else effect.ci_low,
        named_high=nan if effect is None else effect.ci_high,
    )


@lru_cache(maxsize=1)
def _interventions(faces: int, seed: int) -> Interventions:
    return Interventions.on_faces(sample(faces, seed=seed + 30_000))


@lru_cache(maxsize=1)
def _faces(count: int, seed: int) -> TensorImages:
    return TensorImages(render(sample(count, seed=seed + 50_000)))


def _sought(
    classifier: Classifier, embedded: Reference, known: list[str], faces: TensorImages, options: UnnamedOptions
) -> Sought:
    alone = against_reference(
        owners_of(classifier), embedded.classifier, bases=None, downstream=known, estimating=False
    )
    return sought_in(
        faces,
        alone.judged_by(embedded.judge),
        autoencoder=autoencoders.load("embedded"),
        options=AuditOptions(seed=options.seed, discovery=DiscoveryOptions(features=1, images=options.images)),
        positions=range(len(faces.ids)),
    )


@torch.no_grad()
def _ordered(sought: Sought, shortcut: str, options: UnnamedOptions) -> tuple[Floats, Floats]:
    """How far other faces lie along the feature, and whether each has the shortcut, [face]."""
    faces = sample(options.judged, seed=options.seed + 60_000)
    images = render(faces)
    autoencoder = sought.landscape.autoencoder
    latents = torch.cat(in_passes(lambda rows: encoded(autoencoder, images[rows]), len(images), most=64))
    places = float64(metric_of(autoencoder).coordinates(latents)) @ sought.discovery.lines[0].direction
    return places, faces.labels()[:, ATTRIBUTES.index(shortcut)].double().numpy()


def _named_effect(
    classifier: Classifier,
    embedded: Reference,
    known: list[str],
    faces: TensorImages,
    options: UnnamedOptions,
    place: Path,
) -> Effect:
    """The effect of the named feature, in an audit with its head among the references."""
    autoencoder = autoencoders.load("embedded")
    discovery = DiscoveryOptions(features=1, images=options.images)
    run = audit(
        faces,
        classifier,
        reference=embedded,
        autoencoder=autoencoder,
        downstream=known,
        options=AuditOptions(limit=4, shown=0, seed=options.seed, discovery=discovery),
        out=place / "found",
    )
    named = name_feature(run, "unnamed", seed=options.seed)
    again = audit(
        faces,
        classifier,
        reference=_with_name(embedded, named),
        autoencoder=autoencoder,
        downstream=[*known, named.name],
        options=AuditOptions(limit=options.limit, shown=0, seed=options.seed),
        out=place / "named",
    )
    (effect,) = (e for e in again.rows(Effect) if e.attribute == named.name)
    return effect


def _with_name(embedded: Reference, named: NamedFeature) -> Reference:
    head = classifiers.load(str(named.folder))
    return reference_of(JoinedClassifier([embedded.classifier, head]))
