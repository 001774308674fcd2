"""Rectification where the truth is known: the shipped classifiers with a planted shortcut.

Every classifier is rectified without labels, on faces as confounded as its training data. Interventions measure the
true effect of the shortcut before and after. Faces with independent attributes and labels measure the accuracy, overall
and in the worst group of target and shortcut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfalign import autoencoders, classifiers
from cfalign._errors import BadInput
from cfalign._heads.composition import head
from cfalign._heads.scoring import respond
from cfalign._models.device import device_named
from cfalign._models.guard import undisturbed
from cfalign._rectification.options import RectificationOptions
from cfalign._rectification.rectification import rectify
from cfalign._rectification.rectified import Rectified
from cfalign._results import Floats
from cfalign._runs.progress import Progress, silent
from cfalign.classifiers.composed_classifier import ComposedClassifier
from cfalign.datasets import TensorImages
from cfalign.engines import current
from cfalign.synthetic import ATTRIBUTES, INTERVENABLE, Faces, effect, render, sample

CORRELATION = 0.9
"""Correlation of target and shortcut on the faces that β is estimated from, and in the classifiers' training."""


@dataclass(frozen=True)
class PlantedRow:
    """One planted classifier before and after."""

    classifier: str
    target: str
    shortcut: str
    ending: str
    beta: float
    steps: int
    psi_before: float
    psi_before_low: float
    psi_before_high: float
    n_before: int
    psi_after: float
    psi_after_low: float
    psi_after_high: float
    n_after: int
    incoming_before: float
    """ψ(shortcut → f'); NaN unless the reading is incoming."""
    incoming_after: float
    effect_before: float
    """Mean change of the score when the shortcut alone is switched on, by intervention."""
    effect_after: float
    target_effect_before: float
    """The same for the target itself."""
    target_effect_after: float
    accuracy_before: float
    """Over faces with independent attributes; the next three too."""
    accuracy_after: float
    worst_group_before: float
    """Lowest accuracy among the four groups of target and shortcut."""
    worst_group_after: float


@dataclass(frozen=True)
class PlantedRectification:
    """The result for all planted classifiers."""

    rows: tuple[PlantedRow, ...]
    skipped: Mapping[str, str]
    """Classifiers that could not be rectified, and why."""
    options: RectificationOptions

    @property
    def headline(self) -> dict[str, float]:
        """Means over the classifiers; programs rely on the names.

        ``effect_falls_by`` compares the mean *sizes*, so that an effect turned negative does not cancel another;
        ``mean_effect_falls_by`` the means with their signs.
        """

        def column(name: str) -> Floats:
            return np.array([getattr(row, name) for row in self.rows], dtype=float)

        psi_before, psi_after = (np.abs(column(name)).mean() for name in ("psi_before", "psi_after"))
        effect_before, effect_after = column("effect_before"), column("effect_after")
        size_before, size_after = (np.abs(effect).mean() for effect in (effect_before, effect_after))
        worst_group = column("worst_group_after") - column("worst_group_before")
        accuracy = column("accuracy_after") - column("accuracy_before")
        return {
            "pairs": len(self.rows),
            "mean_abs_psi_before": float(psi_before),
            "mean_abs_psi_after": float(psi_after),
            "mean_abs_effect_before": float(size_before),
            "mean_abs_effect_after": float(size_after),
            "mean_effect_before": float(effect_before.mean()),
            "mean_effect_after": float(effect_after.mean()),
            "effect_falls_by": float(1 - size_after / size_before),
            "mean_effect_falls_by": float(1 - effect_after.mean() / effect_before.mean()),
            "worst_group_rises_by": float(worst_group.mean()),
            "accuracy_rises_by": float(accuracy.mean()),
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "headline": self.headline,
            "reading": self.options.reading_name,
            "solver": self.options.solver,
            "seed": self.options.seed,
            "pairs": [asdict(row) for row in self.rows],
            "skipped": dict(self.skipped),
        }

    def lines(self) -> list[str]:
        """For the terminal."""
        title = (
            f"{'classifier':<38}{'ending':<15}{'β':>6}{'ψ before':>22}{'n':>5}{'ψ after':>22}{'n':>5}"
            f"{'effect':>15}{'accuracy':>14}{'worst group':>14}"
        )
        left_out = [f"{name}: skipped: {why}" for name, why in self.skipped.items()]
        numbers = [f"{name:<26}{value:.3f}" for name, value in self.headline.items()]
        return [title, *map(_line, self.rows), *left_out, *numbers]


def _line(row: PlantedRow) -> str:
    before = f"{row.psi_before:+.2f} [{row.psi_before_low:+.2f}, {row.psi_before_high:+.2f}]"
    after = f"{row.psi_after:+.2f} [{row.psi_after_low:+.2f}, {row.psi_after_high:+.2f}]"
    effect = f"{row.effect_before:+.2f} → {row.effect_after:+.2f}"
    accuracy = f"{row.accuracy_before:.2f} → {row.accuracy_after:.2f}"
    worst_group = f"{row.worst_group_before:.2f} → {row.worst_group_after:.2f}"
    return (
        f"{row.classifier:<38}{row.ending:<15}{row.beta:>+6.2f}{before:>22}{row.n_before:>5}{after:>22}{row.n_after:>5}"
        f"{effect:>15}{accuracy:>14}{worst_group:>14}"
    )


def planted_rectification(
    *,
    options: RectificationOptions | None = None,
    names: Sequence[str] | None = None,
    faces: int = 1200,
    independent: int = 1000,
    interventions: int = 50,
    progress: Progress = silent,
) -> PlantedRectification:
    """Rectify shipped classifiers with a planted shortcut against it.

    Args:
        options: reading, solver, seed and so on.
        names: names of ``classifiers.planted()``; by default all whose shortcut was planted.
        faces: number of confounded faces, for β and ψ.
        independent: number of faces with independent attributes, for accuracies.
        interventions: number of faces per attribute, for the true effects.
        progress: called with (stage, done, total).

    They are rectified in this process, or where ``engines.using`` says, with the same numbers. Raises BadInput if none
    of the classifiers can be rectified.
    """
    options = options or RectificationOptions()
    chosen = list(names) if names is not None else [name for name in classifiers.planted() if not name.endswith("_0")]
    done, skipped = _rectified(chosen, faces, options, progress)
    if not done:
        raise BadInput(f"None of {len(chosen)} planted classifiers can be rectified: {next(iter(skipped.values()))}")
    effects = _effects(list(done.values()), sample(interventions, seed=options.seed + 30_000), progress)
    rows = []
    for number, (name, found) in enumerate(done.items()):
        mine = effects[2 * number : 2 * number + 2]
        rows.append(_row(name, found, mine, sample(independent, seed=options.seed + 50_000 + number)))
    return PlantedRectification(tuple(rows), skipped, options)


def _rectified(
    names: Sequence[str], faces: int, options: RectificationOptions, progress: Progress
) -> tuple[dict[str, Rectified], dict[str, str]]:
    """By name: the rectified classifiers, and why others could not be rectified."""
    found: dict[int, Rectified | str] = {}
    progress("classifiers", 0, len(names))
    with current().crew(_Site(faces, options, len(names)), folder=None) as crew:
        for (number, _), result in crew.each(_rectified_one, enumerate(names)):
            found[number] = result
            progress("classifiers", len(found), len(names))
    results = {name: found[number] for number, name in enumerate(names)}
    done = {name: result for name, result in results.items() if not isinstance(result, str)}
    return done, {name: result for name, result in results.items() if isinstance(result, str)}


@dataclass(frozen=True)
class _Site:
    """What the rectification of any classifier needs."""

    faces: int
    options: RectificationOptions
    units: int

    @property
    def device(self) -> torch.device:
        """Where the models work."""
        return torch.device("cpu") if self.options.device is None else device_named(self.options.device)


def _rectified_one(site: _Site, unit: tuple[int, str]) -> Rectified | str:
    """The rectified classifier, or why it cannot be rectified; its faces are drawn by its number."""
    number, name = unit
    target, _, shortcut = name.partition("_from_")
    seed = site.options.seed + 40_000 + number
    drawn = sample(site.faces, seed=seed, correlations={(target, shortcut): CORRELATION})
    try:
        return rectify(
            head(classifiers.load(f"embedded:{name}"), target),
            [head(classifiers.load("embedded"), shortcut)],
            images=TensorImages(render(drawn)),
            autoencoder=autoencoders.load("embedded"),
            options=site.options,
        )
    except BadInput as error:
        return str(error)


def _both(found: Rectified) -> list[ComposedClassifier]:
    return [ComposedClassifier(found.target, name="before"), found.classifier]


def _scores(models: Sequence[ComposedClassifier], images: Tensor) -> Tensor:
    with undisturbed(*models):
        return torch.sigmoid(torch.cat([respond(images, [m]) for m in models], dim=1))


def _effects(found: Sequence[Rectified], faces: Faces, progress: Progress) -> Floats:
    """True effects [before and after of every classifier, attribute]; the faces are rendered once."""
    models = [model for one in found for model in _both(one)]
    progress("interventions", 0, 1)
    table: Floats = effect(lambda images: _scores(models, images), faces).double().numpy().T
    progress("interventions", 1, 1)
    return table


def _row(name: str, found: Rectified, effects: Floats, faces: Faces) -> PlantedRow:
    """``effects``: [before and after, attribute]; ``faces``: with independent attributes."""
    target, _, shortcut = name.partition("_from_")
    accuracy, worst = _accuracies(found, faces, target, shortcut)
    own, other = (effects[:, INTERVENABLE.index(attribute)] for attribute in (target, shortcut))
    before, after = found.before[0], found.after[0]
    incoming_before, incoming_after = (
        readings[0].psi if readings else float("nan") for readings in (found.incoming_before, found.incoming_after)
    )
    return PlantedRow(
        classifier=name,
        target=target,
        shortcut=shortcut,
        ending=found.ending.value,
        beta=found.beta[0],
        steps=len(found.curve),
        psi_before=before.psi,
        psi_before_low=before.ci_low,
        psi_before_high=before.ci_high,
        n_before=before.n,
        psi_after=after.psi,
        psi_after_low=after.ci_low,
        psi_after_high=after.ci_high,
        n_after=after.n,
        incoming_before=incoming_before,
        incoming_after=incoming_after,
        effect_before=float(other[0]),
        effect_after=float(other[1]),
        target_effect_before=float(own[0]),
        target_effect_after=float(own[1]),
        accuracy_before=float(accuracy[0]),
        accuracy_after=float(accuracy[1]),
        worst_group_before=float(worst[0]),
        worst_group_after=float(worst[1]),
    )


def _accuracies(found: Rectified, faces: Faces, target: str, shortcut: str) -> tuple[Floats, Floats]:
    """Mean accuracy and accuracy of the worst of the four groups of target and shortcut, both [before and after]."""
    labels = faces.labels().numpy()
    label, group = (labels[:, ATTRIBUTES.index(attribute)] > 0.5 for attribute in (target, shortcut))
    right = (_scores(_both(found), render(faces)).numpy() >= 0.5) == label[:, None]
    by_group = [right[(label == a) & (group == b)].mean(axis=0) for a in (False, True) for b in (False, True)]
    return right.mean(axis=0), np.min(by_group, axis=0)
