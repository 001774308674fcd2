"""Subsets of labelled images in which a target and a confounder go together, and a small classifier trained on each.

``planted_shortcuts`` does the same with rendered faces. On labelled photographs no attribute can be set, but the choice
of the images decides how strongly the two attributes are correlated in training (the *dose*).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cfalign._errors import BadInput
from cfalign._runs.progress import Progress
from cfalign._types import Classifier
from cfalign.classifiers.by_spec import from_weights
from cfalign.datasets import ImageSource, Labels
from cfalign.training.classifier import train_classifier
from cfalign.training.options import ClassifierTraining
from cfalign.training.processes import Workers, in_processes

GROUPS = ((1, 1), (1, 0), (0, 1), (0, 0))
"""(target, confounder) of the four groups, in the order used everywhere."""
RECIPE = ClassifierTraining(
    widths=(16, 32, 64, 96), residual=False, steps=300, learning_rate=3e-3, average=0.98, weight_decay=0.05
)
"""For hundreds to thousands of images; steps, not epochs, so that small subsets are learnt as long as large ones."""
MEASURED_PER_GROUP = 50
"""Held-out images per group that the training itself measures its AUROC on."""

Positions = NDArray[np.int64]


@dataclass(frozen=True, order=True)
class Confounded:
    """One classifier to be trained."""

    target: str
    confounder: str
    dose: float
    """Correlation (phi) of target and confounder in its training images, in [0, 1]."""
    seed: int

    @property
    def name(self) -> str:
        """``TARGET_from_CONFOUNDER@DOSE#SEED``; also the name of its folder."""
        return f"{self.target}_from_{self.confounder}@{self.dose:g}#{self.seed}"


@dataclass(frozen=True)
class Sizes:
    """How many images the subsets of one pair have."""

    images: int
    """The same at every dose; 0 when no dose is left."""
    doses: tuple[float, ...]
    """Those that this many images can be found for."""
    left_out: Mapping[float, str]
    """The others, each with one sentence."""


def groups(labels: Labels, target: str, confounder: str) -> tuple[Positions, ...]:
    """Positions of the images of each of ``GROUPS``; images without one of the two labels are in none."""
    t, c = labels.column(target), labels.column(confounder)
    return tuple(np.flatnonzero((t == a) & (c == b)) for a, b in GROUPS)


def wanted(images: int, dose: float) -> tuple[int, int, int, int]:
    """Images per group of ``GROUPS``, both attributes present in half of them, correlated as the dose says.

    ``images`` is rounded down to an even number; the correlation is exact but for the rounding to whole images.
    """
    half = images // 2
    agreeing = round(half * (1 + dose) / 2)
    return agreeing, half - agreeing, half - agreeing, agreeing


def most_images(counts: Sequence[int], dose: float) -> int:
    """The largest subset that groups of these sizes allow at a dose, an even number."""
    low, high = 0, sum(counts) // 2
    while low < high:  # images needed per group never fall when the subset grows
        middle = (low + high + 1) // 2
        fits = all(need <= count for need, count in zip(wanted(2 * middle, dose), counts, strict=True))
        low, high = (middle, high) if fits else (low, middle - 1)
    return 2 * low


def sizes(counts: Sequence[int], doses: Sequence[float], *, least: int, most: int, pair: tuple[str, str]) -> Sizes:
    """One size for all doses of a pair: the largest that its rarest needed group allows, at most ``most``.

    A dose that fewer than ``least`` images can be found for is left out, so that it does not make the others small.
    """
    possible = {dose: most_images(counts, dose) for dose in doses}
    kept = tuple(dose for dose in doses if possible[dose] >= least)
    reasons = {}
    for dose in doses:
        if dose not in kept:
            needs = wanted(least, dose)
            short = [k for k, need in enumerate(needs) if need > counts[k]]
            rare = min(short, key=lambda k: counts[k])
            (t, c), need = GROUPS[rare], needs[rare]
            reasons[dose] = (
                f"{pair[0]} from {pair[1]} at dose {dose:g}: only {counts[rare]} training images have {pair[0]}={t} "
                f"and {pair[1]}={c}, {need} are needed for the smallest subset of {least}."
            )
    images = min((possible[dose] for dose in kept), default=0)
    return Sizes(min(images, most // 2 * 2), kept, reasons)


def chosen(members: Sequence[Positions], one: Confounded, *, images: int) -> Positions:
    """Positions of the subset, sorted: drawn from each group without replacement, by the classifier's name alone."""
    rng = np.random.default_rng([one.seed, zlib.crc32(one.name.encode())])
    needs = wanted(images, one.dose)
    drawn = [rng.permutation(group)[:need] for group, need in zip(members, needs, strict=True)]
    for group, need in zip(drawn, wanted(images, one.dose), strict=True):
        if len(group) < need:
            raise BadInput(f"{one.name} needs {need} images of a group that has {len(group)}; ask for fewer images.")
    return np.sort(np.concatenate(drawn))


@dataclass(frozen=True)
class Task:
    """A classifier and the images it is trained and measured on."""

    one: Confounded
    train: tuple[str, ...]
    """Ids."""
    held_out: tuple[str, ...]


def train_all(
    tasks: Sequence[Task],
    source: ImageSource,
    labels: Labels,
    folder: Path,
    *,
    recipe: ClassifierTraining = RECIPE,
    workers: Workers = 2,
    progress: Progress = lambda stage, done, total: None,
) -> None:
    """Train what is missing below ``folder``, ``workers`` at a time, one thread each; a stopped run goes on."""
    missing = [task for task in tasks if not _weights(task.one, folder).is_file()]
    jobs = [(task, *_material(task, source, labels), folder, recipe) for task in missing]
    done = len(tasks) - len(missing)
    in_processes(
        train_one, jobs, workers=workers, stage="confounded classifiers", folder=folder, done=done, progress=progress
    )


def _material(task: Task, source: ImageSource, labels: Labels) -> tuple[ImageSource, Labels]:
    """The images of one task and their labels, with its own split."""
    ids = [*task.train, *task.held_out]
    split = ("train",) * len(task.train) + ("val",) * len(task.held_out)
    table = replace(labels.require([task.one.target]).subset(ids), split=split, extra={})
    return source.subset(ids), table


def train_one(task: Task, source: ImageSource, labels: Labels, folder: Path, recipe: ClassifierTraining) -> None:
    """Train one, or go on with it; its initial weights and batches are the same at every dose of a seed."""
    options = replace(recipe, size=source.shape[0], seed=task.one.seed)
    train_classifier(source, labels, out=folder / task.one.name, options=options)


def load_confounded(one: Confounded, folder: Path) -> Classifier:
    """The trained classifier. Raises BadInput where it was not trained yet."""
    file = _weights(one, folder)
    if not file.is_file():
        raise BadInput(f"{one.name} was not trained yet in {folder}; `train_all` trains it.")
    return from_weights(file, name=one.name)


def _weights(one: Confounded, folder: Path) -> Path:
    return folder / one.name / "classifier.safetensors"
