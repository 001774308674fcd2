"""The plan from labels and options: classifiers, their training images, and the images that measure them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from cfalign._analysis.statistics import generator
from cfalign._errors import BadInput
from cfalign.benchmarks.photographs.options import PhotographsOptions
from cfalign.datasets import Labels
from cfalign.training.recipes.confounded_subsets import (
    GROUPS,
    MEASURED_PER_GROUP,
    Confounded,
    Positions,
    Task,
    chosen,
    groups,
    sizes,
)

LEAST_GROUP = 16
"""Fewest measured images per group: with fewer the standard error of its accuracy can exceed 0.125."""

Ids = tuple[str, ...]


@dataclass(frozen=True)
class PlannedPair:
    """A target and a confounder with enough images."""

    target: str
    confounder: str
    images: int
    """Training images of each classifier."""
    measured: tuple[Ids, ...]
    """Ids of the images that measure the gaps, by group."""
    tasks: tuple[Task, ...]
    """Trainings of its classifiers, by dose and seed."""

    @property
    def names(self) -> tuple[str, str]:
        """Target and confounder."""
        return self.target, self.confounder


@dataclass(frozen=True)
class PhotographsPlan:
    """The pairs of the benchmark, and why other pairs are left out."""

    pairs: tuple[PlannedPair, ...]
    left_out: tuple[str, ...]
    """One sentence for every dose and pair that is left out."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Trainings of all classifiers, in the order of the audit."""
        return tuple(task for pair in self.pairs for task in pair.tasks)

    def fingerprint(self) -> str:
        """A hash (16 hex digits) of the ids of all training and measured images."""
        trained = [(task.one.name, task.train, task.held_out) for task in self.tasks]
        measured = {pair.names: pair.measured for pair in self.pairs}
        return sha256((repr(trained) + repr(measured)).encode()).hexdigest()[:16]


def planned(labels: Labels, options: PhotographsOptions) -> PhotographsPlan:
    """Choose the images of every pair. Raises BadInput for unknown attributes and splits, and if no pair is left."""
    labels.require(dict.fromkeys(name for pair in options.pairs for name in pair))
    train = labels.subset(labels.in_split(options.train_split))
    held_out = labels.subset(labels.in_split(options.split))
    pairs: list[PlannedPair] = []
    left_out: list[str] = []
    for names in dict.fromkeys(options.pairs):
        pair, reasons = _planned_pair(names, train, held_out, options)
        left_out += reasons
        if pair is not None:
            pairs.append(pair)
    if not pairs:
        raise BadInput("Expected at least one pair with enough images, got none. " + " ".join(left_out))
    return PhotographsPlan(tuple(pairs), tuple(left_out))


def _planned_pair(
    pair: tuple[str, str], train: Labels, held_out: Labels, options: PhotographsOptions
) -> tuple[PlannedPair | None, list[str]]:
    """The pair if it has enough images, and one sentence for everything that is left out."""
    measured = tuple(
        _drawn(held_out, group, options, pair, number) for number, group in enumerate(groups(held_out, *pair))
    )
    members = groups(train, *pair)
    counts = [len(group) for group in members]
    size = sizes(counts, options.doses, least=options.least, most=options.most, pair=pair)
    left_out = list(size.left_out.values())
    reason = _why_not(pair, measured, size.doses, options.split)
    if reason is not None:
        return None, [*left_out, reason]
    held_out_ids = tuple(name for group in measured for name in group[:MEASURED_PER_GROUP])
    tasks = []
    for dose in size.doses:
        for seed in options.seeds:
            one = Confounded(*pair, dose, seed)
            rows = chosen(members, one, images=size.images)
            tasks.append(Task(one, tuple(train.ids[row] for row in rows), held_out_ids))
    return PlannedPair(*pair, size.images, measured, tuple(tasks)), left_out


def _drawn(labels: Labels, group: Positions, options: PhotographsOptions, pair: tuple[str, str], number: int) -> Ids:
    """Ids of at most ``per_group`` images of one group."""
    rng = generator(options.seed, "measured", *pair, str(number))
    order = rng.permutation(len(group))[: options.per_group]
    return tuple(labels.ids[row] for row in group[order])


def _why_not(pair: tuple[str, str], measured: Sequence[Ids], doses: Sequence[float], split: str) -> str | None:
    """One sentence if a pair has too few images, else None."""
    target, confounder = pair
    if len(doses) < 2:
        return f"{target} from {confounder}: {len(doses)} dose(s) with enough training images, at least 2 are needed."
    smallest = int(np.argmin([len(group) for group in measured]))
    count = len(measured[smallest])
    if count < LEAST_GROUP:
        has_target, has_confounder = GROUPS[smallest]
        return (
            f"{target} from {confounder}: {count} images of {split!r} have {target}={has_target} and "
            f"{confounder}={has_confounder}, {LEAST_GROUP} are needed to know a group's accuracy."
        )
    return None
