"""Classifiers with nothing to find: the material of ``benchmark nulls``.

Three kinds: networks as they are before training, networks trained on permuted labels, and networks trained on one
attribute of faces on which all attributes are independent, which use that attribute and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from cfalign._models.weights import save_weights
from cfalign._runs.progress import Progress, silent
from cfalign._types import Classifier
from cfalign.classifiers.attribute_network import AttributeNetwork
from cfalign.classifiers.by_spec import from_weights
from cfalign.synthetic import ATTRIBUTES, sample
from cfalign.training.classifier import train_classifier
from cfalign.training.loop import seeded
from cfalign.training.processes import Workers, in_processes
from cfalign.training.recipes.embedded import PLANTED_FACES, RECIPE, labelled, rendered
from cfalign.training.recipes.planted_shortcuts import PAIRS

Kind = Literal["untrained", "permuted", "unplanted"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TARGETS = tuple(target for target, _ in PAIRS)
FIRST_STREAM = 3_000_000


@dataclass(frozen=True, order=True)
class NullClassifier:
    """One classifier with nothing to find."""

    kind: Kind
    number: int
    faces: int = PLANTED_FACES
    """Faces it is trained on."""

    @property
    def name(self) -> str:
        """Also the name of its folder."""
        return f"{self.kind}#{self.number}"

    @property
    def target(self) -> str:
        """The attribute that it is trained on, or named after."""
        return TARGETS[self.number % len(TARGETS)]

    @property
    def stream(self) -> int:
        """Seed of its faces, its labels and its training."""
        return FIRST_STREAM + 10_000 * KINDS.index(self.kind) + self.number


def nulls(each: int) -> tuple[NullClassifier, ...]:
    """So many of each kind."""
    return tuple(NullClassifier(kind, number) for kind in KINDS for number in range(each))


def make(wanted: NullClassifier, folder: Path) -> Path:
    """Make one below ``folder``, or go on with it, or find it done; the path of its weights."""
    file = _weights(wanted, folder)
    if wanted.kind == "untrained":
        if not file.is_file():
            options = RECIPE.planted
            with seeded(wanted.stream):
                network = AttributeNetwork(
                    [wanted.target],
                    size=options.size,
                    widths=options.widths,
                    hidden=options.hidden,
                    residual=options.residual,
                )
            save_weights(file, network, network.config)
        return file
    faces = sample(wanted.faces, seed=wanted.stream)
    images, column = rendered(faces), faces.labels()[:, [ATTRIBUTES.index(wanted.target)]]
    if wanted.kind == "permuted":
        column = column[torch.from_numpy(np.random.default_rng(wanted.stream).permutation(len(column)))]
    labels = labelled(images, (wanted.target,), column)
    recipe = replace(RECIPE.planted, seed=wanted.stream)
    return train_classifier(images, labels, out=file.parent, options=recipe).weights


def make_all(
    wanted: Sequence[NullClassifier], folder: Path, *, workers: Workers = 2, progress: Progress = silent
) -> None:
    """Make what is missing below ``folder``, ``workers`` at a time, one thread each; about 15 s for a trained one."""
    missing = [one for one in dict.fromkeys(wanted) if not _weights(one, folder).is_file()]
    jobs = [(one, folder) for one in missing]
    done = len(wanted) - len(missing)
    in_processes(make, jobs, workers=workers, stage="null classifiers", folder=folder, done=done, progress=progress)


def load_null(wanted: NullClassifier, folder: Path) -> Classifier:
    """The classifier, made before."""
    return from_weights(_weights(wanted, folder), name=wanted.name)


def _weights(wanted: NullClassifier, folder: Path) -> Path:
    return folder / wanted.name / "classifier.safetensors"
