"""Classifiers that were trained on confounded faces, measured: what they are worth, what they use, what an audit says.

All classifiers of one target and shortcut are audited in one bank of faces that are confounded as training was. What
they are worth and what they truly use is measured on other faces, whose attributes are independent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
from cfalign._models.fingerprint import fingerprint
from cfalign._results import Floats
from cfalign._runs.codec import as_json, write_json
from cfalign._runs.columns import Column
from cfalign._runs.progress import Progress
from cfalign._runs.record import refuse_other
from cfalign._runs.run import Run
from cfalign._types import Classifier
from cfalign.datasets import TensorImages
from cfalign.synthetic import Faces, render, sample, switched
from cfalign.training.recipes.planted_shortcuts import PAIRS, SEEDS, Plant
from cfalign.training.recipes.robust_methods import METHODS, Robust, groups

CORRELATION = 0.9
"""Of target and shortcut on the audited faces."""
CONTROL = 0.0
"""Dose of the classifiers in which nothing is planted."""


@dataclass(frozen=True)
class RobustnessOptions:
    """What is trained and measured."""

    pairs: tuple[tuple[str, str], ...] = PAIRS[:3]
    """(target, shortcut): two objects (eyeglasses, a hat) and a texture (pale skin)."""
    doses: tuple[float, ...] = (0.5, 0.9, 1.0)
    """Of all methods; ``erm`` is trained without a plant too."""
    seeds: tuple[int, ...] = SEEDS
    methods: tuple[str, ...] = METHODS
    training_faces: int = 2000
    faces: int = 600
    """Confounded ones that are audited."""
    limit: int = 40
    """Counterfactuals per head."""
    independent: int = 4000
    """Faces for accuracies."""
    interventions: int = 200
    """Faces for true effects."""
    seed: int = 0

    def wanted(self) -> tuple[Robust, ...]:
        """Every classifier."""
        return tuple(
            Robust(Plant(target, shortcut, dose, seed, self.training_faces), method)
            for target, shortcut in self.pairs
            for dose in (CONTROL, *self.doses)
            for seed in self.seeds
            for method in (self.methods if dose != CONTROL else ("erm",))
        )


QUICK = RobustnessOptions(
    pairs=PAIRS[:1], doses=(0.9, 1.0), seeds=(0,), training_faces=600, faces=240, limit=10, independent=400,
    interventions=24,
)  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One trained classifier; effects and ψ are those of its shortcut, in probability."""

    classifier: str
    target: str
    shortcut: str
    dose: float
    training_seed: int
    method: str
    accuracy: float
    """On faces whose attributes are independent, as are the next two."""
    worst_group: float
    """Least accuracy of the four groups by target and shortcut."""
    gap: float
    """``accuracy`` − ``worst_group``."""
    truth: float
    """Effect by intervention over faces with independent attributes."""
    truth_here: float
    """The same over faces distributed as the audited ones."""
    effect: float
    """Unmixed, with its 95 % interval."""
    ci_low: float
    ci_high: float
    incoming: float
    outgoing: float
    """Mean ψ over its own counterfactuals; NaN without any."""
    outgoing_low: float
    outgoing_high: float
    outgoing_n: int

    @property
    def worst_error(self) -> float:
        """1 − ``worst_group``: unlike the gap it goes on growing where the mean accuracy falls too."""
        return 1 - self.worst_group


@dataclass(frozen=True)
class Pair:
    """All classifiers of one target and shortcut."""

    target: str
    shortcut: str
    classifiers: Mapping[Robust, Classifier]
    options: RobustnessOptions
    seed: int

    @property
    def audited(self) -> list[Classifier]:
        """In order."""
        return list(self.classifiers.values())


def kept(job: Pair, independent: tuple[Faces, Tensor], folder: Path, progress: Progress) -> list[Measured]:
    """The measurements, from ``folder`` where they are; RunMismatch where it holds others."""
    settings = as_json({
        "options": asdict(replace(job.options, pairs=((job.target, job.shortcut),))),
        "classifiers": {r.name: fingerprint(c) for r, c in job.classifiers.items()},
    })  # fmt: skip
    file = folder / "measured.json"
    if file.is_file():
        content = json.loads(file.read_text(encoding="utf-8"))
        refuse_other(content["settings"], settings, folder)
    else:
        rows = [asdict(row) for row in _measured(job, independent, folder, progress)]
        write_json(file, {"settings": settings, "classifiers": rows})
        content = as_json({"classifiers": rows})
    return [_read(row) for row in content["classifiers"]]


def _read(row: Mapping[str, Any]) -> Measured:
    known: dict[str, Any] = {k: float("nan") if v is None else v for k, v in row.items()}  # JSON has no NaN
    return Measured(**known)


def _measured(job: Pair, independent: tuple[Faces, Tensor], folder: Path, progress: Progress) -> list[Measured]:
    options = job.options
    here = sample(options.faces, seed=job.seed, correlations={(job.target, job.shortcut): CORRELATION})
    images = render(here)
    run = _audited(job, images, folder, progress)
    table, scores = run.effects(), run.scores()
    accuracy, worst = _accuracies(job, *independent)
    truth = _true_effects(job, independent[0][: options.interventions])
    truth_here = _true_effects(job, here[: options.interventions])
    rows = []
    for k, (label, robust) in enumerate(zip(run.record()["audited"], job.classifiers, strict=True)):
        mine = (table["audited"] == label) & (table["attribute"] == job.shortcut)
        found = table.filter(mine).row(0, named=True)
        positive = scores.filter(scores[Column.RECONSTRUCTION.of(label)] >= 0.5)["image_id"].sort()
        chosen = torch.tensor([int(i) for i in positive[: options.limit]], dtype=torch.int64)
        psi, psi_low, psi_high, n = _outgoing(job.classifiers[robust], images[chosen], job, name=robust.name)
        rows.append(
            Measured(
                classifier=robust.name, target=job.target, shortcut=job.shortcut, dose=robust.plant.dose,
                training_seed=robust.plant.seed, method=robust.method, accuracy=float(accuracy[k]),
                worst_group=float(worst[k]), gap=float(accuracy[k] - worst[k]),
                truth=float(truth[k]), truth_here=float(truth_here[k]),
                effect=found["effect"], ci_low=found["ci_low"], ci_high=found["ci_high"], incoming=found["incoming"],
                outgoing=psi, outgoing_low=psi_low, outgoing_high=psi_high, outgoing_n=n,
            )
        )  # fmt: skip
        progress("outgoing", k + 1, len(job.classifiers))
    return rows


def _audited(job: Pair, images: Tensor, folder: Path, progress: Progress) -> Run:
    """All classifiers of the pair on one bank of the faces."""
    options = AuditOptions(limit=job.options.limit, seed=job.seed, shown=0)
    made = bank(
        TensorImages(images), classifiers.load("embedded"), autoencoder=autoencoders.load("embedded"),
        options=options, out=folder / "bank", progress=progress,
    )  # fmt: skip
    return audit(made, job.audited, options=options, out=folder / "audit", progress=progress)


def _probabilities(images: Tensor, audited: Sequence[Classifier]) -> Tensor:
    return torch.sigmoid(respond(images, audited))


def _accuracies(job: Pair, faces: Faces, images: Tensor) -> tuple[Floats, Floats]:
    """Mean accuracy and that of the worst group, [classifier]."""
    of = groups(faces, target=job.target, shortcut=job.shortcut).numpy()
    right = (_probabilities(images, job.audited).numpy() >= 0.5) == (of >= 2)[:, None]
    return right.mean(axis=0), np.min([right[of == g].mean(axis=0) for g in range(4)], axis=0)


def _true_effects(job: Pair, faces: Faces) -> Floats:
    """Mean change of the probability when the shortcut alone is switched on, [classifier]."""
    off, on = (_probabilities(render(side), job.audited).double() for side in switched(faces, job.shortcut))
    effects: Floats = (on - off).mean(dim=0).numpy()
    return effects


def _outgoing(audited: Classifier, images: Tensor, job: Pair, *, name: str) -> tuple[float, float, float, int]:
    """ψ(target → shortcut) on images that the classifier predicts positive: mean, 95 % interval over them, n."""
    nan = float("nan")
    if not len(images):
        return nan, nan, nan, 0
    reference = head(classifiers.load("embedded"), job.shortcut)
    found = latent_shift(images, head(audited, job.target), autoencoder=autoencoders.load("embedded"))
    column = reference.classifiers[0].targets.index(job.shortcut)
    after, before = (
        _probabilities(x, reference.classifiers)[:, [column]].double().numpy()
        for x in (found.images, found.reconstructions)
    )
    least = AlignmentOptions().min_base_change
    psi = relative_change(after - before, found.base_after - found.base_before, min_base_change=least)
    psi = psi[np.isfinite(psi[:, 0]) & np.array([o.walked for o in found.outcomes])]
    if not len(psi):
        return nan, nan, nan, 0
    counts = bootstrap_counts(len(psi), resamples=1000, rng=generator(job.seed, "outgoing", name))
    low, high = percentile_interval(counts @ psi / len(psi))
    return float(psi.mean()), float(low[0]), float(high[0]), len(psi)
