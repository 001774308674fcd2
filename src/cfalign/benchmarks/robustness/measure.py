"""The run of the benchmark: train missing classifiers, measure every classifier, keep the measurements.

All classifiers of one target and shortcut are audited on one bank of confounded faces. Their accuracies and the true
effects of the shortcut are measured on other faces, with independent attributes, which the audit does not see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfalign import autoencoders, classifiers
from cfalign._analysis.alignment import relative_change
from cfalign._analysis.options import AlignmentOptions
from cfalign._analysis.statistics import bootstrap_counts, generator, percentile_interval
from cfalign._audit.audit import audit
from cfalign._audit.bank import bank
from cfalign._audit.options import AuditOptions
from cfalign._counterfactuals.methods import latent_shift
from cfalign._heads.composition import head
from cfalign._heads.scoring import respond
from cfalign._models.downloads import cache_folder
from cfalign._results import Effect, Floats
from cfalign._runs.columns import Column
from cfalign._runs.progress import Progress, ShowProgress, told_to, with_bars
from cfalign._runs.run import Run
from cfalign._types import Classifier
from cfalign.benchmarks.detection.options import CORRELATION
from cfalign.benchmarks.ledger import fingerprints, measured_once, numbers, staged, workplace
from cfalign.benchmarks.robustness.options import RobustnessOptions
from cfalign.benchmarks.robustness.result import RobustClassifier, Robustness
from cfalign.datasets import TensorImages
from cfalign.synthetic import Faces, render, sample, switched
from cfalign.training.processes import Workers
from cfalign.training.recipes.robust_methods import Robust, groups, load_robust, train_all_robust

RESAMPLES = 1000


@with_bars
def robustness(
    *,
    options: RobustnessOptions | None = None,
    models: str | Path | None = None,
    out: str | Path | None = None,
    workers: Workers = 2,
    progress: ShowProgress = None,
) -> Robustness:
    """Train missing classifiers, and measure every classifier.

    Args:
        options: pairs, doses, seeds and numbers of faces; ``QUICK`` is a short form.
        models: folder of trained classifiers, with a subfolder per number of training faces; the user's cache by
            default.
        out: folder of banks, audits and measurements, which a later call reads; a temporary one by default.
        workers: parallel trainings; or the workers of Ray, ``cfa.engines.Ray()``.
        progress: True shows bars; a function is called with (stage, done, total).

    Raises BadInput if ``out`` is a file, and RunMismatch if it holds measurements of other options or classifiers.
    """
    progress = told_to(progress)
    options = options or RobustnessOptions()
    kept_models = Path(models).expanduser() if models is not None else cache_folder() / "planted"
    place = kept_models / f"robust-{options.training_faces}"
    rows: list[RobustClassifier] = []
    with workplace(out) as folder:
        train_all_robust(options.wanted(), place, workers=workers, progress=progress)
        independent = _LabelledFaces.drawn(options.independent, seed=options.seed + 80_000)
        for number, (target, shortcut) in enumerate(options.pairs):
            progress("pairs", number, len(options.pairs))
            mine = _loaded(options, number, place)
            part = staged(progress, number, len(options.pairs))
            rows += _measured(mine, independent, folder / f"{target}_from_{shortcut}", part)
        progress("pairs", len(options.pairs), len(options.pairs))
    return Robustness(tuple(rows), options)


@dataclass(frozen=True)
class _LabelledFaces:
    """Faces with independent attributes, and their images."""

    faces: Faces
    images: Tensor

    @classmethod
    def drawn(cls, count: int, *, seed: int) -> _LabelledFaces:
        faces = sample(count, seed=seed)
        return cls(faces, render(faces))


@dataclass(frozen=True)
class _ShortcutClassifiers:
    """All classifiers of one target and shortcut."""

    target: str
    shortcut: str
    classifiers: Mapping[Robust, Classifier]
    options: RobustnessOptions
    seed: int

    @property
    def audited(self) -> list[Classifier]:
        return list(self.classifiers.values())

    def probabilities(self, images: Tensor) -> Tensor:
        """Of every classifier, [image, classifier]."""
        return torch.sigmoid(respond(images, self.audited))


def _loaded(options: RobustnessOptions, number: int, place: Path) -> _ShortcutClassifiers:
    """The classifiers of the pair with this number."""
    pair = options.pairs[number]
    wanted = [robust for robust in options.wanted() if (robust.plant.target, robust.plant.shortcut) == pair]
    loaded = {robust: load_robust(robust, place) for robust in wanted}
    return _ShortcutClassifiers(*pair, loaded, options, options.seed + 70_000 + number)


def _measured(
    group: _ShortcutClassifiers, independent: _LabelledFaces, folder: Path, progress: Progress
) -> list[RobustClassifier]:
    """The rows of a pair, read from ``folder`` if it holds them; RunMismatch if it holds others."""
    settings = {
        "options": asdict(replace(group.options, pairs=((group.target, group.shortcut),))),
        "classifiers": fingerprints({robust.name: model for robust, model in group.classifiers.items()}),
    }

    def measure() -> list[dict[str, Any]]:
        return [asdict(row) for row in _rows(group, independent, folder, progress)]

    rows = measured_once(folder / "measured.json", settings, "classifiers", measure)
    return [RobustClassifier(**numbers(row)) for row in rows]


def _rows(
    group: _ShortcutClassifiers, independent: _LabelledFaces, folder: Path, progress: Progress
) -> list[RobustClassifier]:
    options, together = group.options, {(group.target, group.shortcut): CORRELATION}
    here = sample(options.faces, seed=group.seed, correlations=together)
    images = render(here)
    run = _audited(group, images, folder, progress)
    effects = {effect.audited: effect for effect in run.rows(Effect) if effect.attribute == group.shortcut}
    accuracy, worst = _accuracies(group, independent)
    truth = _true_effects(group, independent.faces[: options.interventions])
    truth_here = _true_effects(group, here[: options.interventions])
    rows = []
    for k, (label, robust) in enumerate(zip(run.record()["audited"], group.classifiers, strict=True)):
        positive = _predicted_positive(run, label)[: options.limit]
        outgoing = _outgoing(group, robust, images[positive])
        row = RobustClassifier(
            classifier=robust.name,
            target=group.target,
            shortcut=group.shortcut,
            dose=robust.plant.dose,
            training_seed=robust.plant.seed,
            method=robust.method,
            accuracy=float(accuracy[k]),
            worst_group=float(worst[k]),
            gap=float(accuracy[k] - worst[k]),
            truth=float(truth[k]),
            truth_here=float(truth_here[k]),
            effect=effects[label].effect,
            ci_low=effects[label].ci_low,
            ci_high=effects[label].ci_high,
            incoming=effects[label].incoming,
            outgoing=outgoing.psi,
            outgoing_low=outgoing.ci_low,
            outgoing_high=outgoing.ci_high,
            outgoing_n=outgoing.n,
        )
        rows.append(row)
        progress("outgoing", k + 1, len(group.classifiers))
    return rows


def _audited(group: _ShortcutClassifiers, images: Tensor, folder: Path, progress: Progress) -> Run:
    """All classifiers of the pair on one bank of the faces."""
    options = AuditOptions(limit=group.options.limit, seed=group.seed, shown=0)
    made = bank(
        TensorImages(images),
        classifiers.load("embedded"),
        autoencoder=autoencoders.load("embedded"),
        options=options,
        out=folder / "bank",
        progress=progress,
    )
    return audit(made, group.audited, options=options, out=folder / "audit", progress=progress)


def _predicted_positive(run: Run, label: str) -> Tensor:
    """Row numbers of the faces that a head predicts positive."""
    scores = run.scores()
    positive = scores.filter(scores[Column.RECONSTRUCTION.of(label)] >= 0.5)["image_id"].sort()
    return torch.tensor([int(name) for name in positive], dtype=torch.int64)


def _accuracies(group: _ShortcutClassifiers, independent: _LabelledFaces) -> tuple[Floats, Floats]:
    """Mean accuracy and accuracy of the worst of the four groups of target and shortcut, both [classifier]."""
    of = groups(independent.faces, target=group.target, shortcut=group.shortcut).numpy()
    has_target = of >= 2
    right = (group.probabilities(independent.images).numpy() >= 0.5) == has_target[:, None]
    by_group = [right[of == number].mean(axis=0) for number in range(4)]
    return right.mean(axis=0), np.min(by_group, axis=0)


def _true_effects(group: _ShortcutClassifiers, faces: Faces) -> Floats:
    """Mean change of the probability when the shortcut alone is switched on, [classifier]."""
    off, on = (group.probabilities(render(side)).double() for side in switched(faces, group.shortcut))
    effects: Floats = (on - off).mean(dim=0).numpy()
    return effects


@dataclass(frozen=True)
class _Outgoing:
    """ψ(target → shortcut), its 95 % interval over images, and their number; NaN without any."""

    psi: float
    ci_low: float
    ci_high: float
    n: int


_NONE = _Outgoing(float("nan"), float("nan"), float("nan"), 0)


def _outgoing(group: _ShortcutClassifiers, robust: Robust, images: Tensor) -> _Outgoing:
    """Mean relative change (Eq. 3) of the shortcut's embedded head over the classifier's own counterfactuals."""
    if not len(images):
        return _NONE
    shortcut = head(classifiers.load("embedded"), group.shortcut)
    target = head(group.classifiers[robust], group.target)
    found = latent_shift(images, target, autoencoder=autoencoders.load("embedded"))
    after, before = (
        torch.sigmoid(respond(x.cpu(), shortcut.classifiers)).double().numpy()
        for x in (found.images, found.reconstructions)
    )
    column = shortcut.classifiers[0].targets.index(group.shortcut)
    change = (after - before)[:, [column]]
    least = AlignmentOptions().min_base_change
    psi = relative_change(change, found.base_after - found.base_before, min_base_change=least)
    walked = np.array([outcome.walked for outcome in found.outcomes])
    psi = psi[np.isfinite(psi[:, 0]) & walked]
    if not len(psi):
        return _NONE
    rng = generator(group.seed, "outgoing", robust.name)
    counts = bootstrap_counts(len(psi), resamples=RESAMPLES, rng=rng)
    low, high = percentile_interval(counts @ psi / len(psi))
    return _Outgoing(float(psi.mean()), float(low[0]), float(high[0]), len(psi))
