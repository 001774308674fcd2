"""Imperfect reference heads: all attributes learnt from faces on which target and shortcut of many pairs go together.

The embedded heads learn from 32,000 faces with independent attributes, which nobody has. These learn from few faces on
which all of ``planted_shortcuts.PAIRS`` are correlated at a *dose*, by the same recipe, and in variants that may repair
them. A variant knows nothing but the images and labels that all of them get.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cfalign import autoencoders
from cfalign._errors import BadInput
from cfalign._runs.progress import Progress
from cfalign._types import Classifier
from cfalign.classifiers.by_spec import from_weights
from cfalign.synthetic import ATTRIBUTES, sample
from cfalign.training.classifier import train_classifier
from cfalign.training.objectives import BalancedLabels
from cfalign.training.options import ClassifierTraining
from cfalign.training.processes import Workers, in_processes
from cfalign.training.recipes.embedded import RECIPE, labelled, rendered
from cfalign.training.recipes.last_layer import logistic
from cfalign.training.recipes.planted_shortcuts import PAIRS

NETWORKS = ("plain", "reconstructed", "balanced", "judge", "balanced_judge")
"""``plain``: the embedded recipe without reconstructions; ``reconstructed``: a quarter of the images of a batch are
replaced by their reconstructions; ``balanced``: that, and every head's loss weighs the faces so that the other labels
say nothing about its own (``balancing``). The judges are ``reconstructed`` and ``balanced`` in a slightly smaller
network, from another seed and another draw of faces, as confounded."""
EXPOSURES = 45_000
"""Faces seen in a training, the same one again counted anew, where that is more than the recipe's five epochs."""
CLIP = 0.05
"""Probabilities in the weights stay in [CLIP, 1 − CLIP]: a few faces that contradict the rest must not be all."""


@dataclass(frozen=True, order=True)
class Imperfect:
    """One network of reference heads to be trained."""

    dose: float
    """Correlation of target and shortcut of every pair, in [0, 1)."""
    faces: int
    network: str
    seed: int = 0
    exposures: int = EXPOSURES

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise BadInput(f"Unknown reference network {self.network!r}; expected one of {', '.join(NETWORKS)}.")
        if not 0 <= self.dose < 1:
            raise BadInput(f"The dose of reference heads is a correlation in [0, 1), got {self.dose!r}.")

    @property
    def name(self) -> str:
        """``references@DOSE#FACES.NETWORK`` and what differs from the defaults; also the name of its folder."""
        rest = f"-{self.seed}" * bool(self.seed) + f"~{self.exposures}" * (self.exposures != EXPOSURES)
        return f"references@{self.dose:g}#{self.faces}.{self.network}{rest}"

    @property
    def judging(self) -> bool:
        """Whether it is a judge."""
        return self.network.endswith("judge")

    @property
    def stream(self) -> int:
        """Seed of its faces and its training: judges have another."""
        return 900_000 + 100 * round(100 * self.dose) + 10 * self.judging + 20 * self.seed


def recipe(wanted: Imperfect) -> ClassifierTraining:
    """How it is trained."""
    options = replace(
        RECIPE.attributes, seed=wanted.stream, epochs=max(RECIPE.attributes.epochs, wanted.exposures / wanted.faces)
    )
    if wanted.network == "plain":
        return replace(options, reconstructed=0.0)
    return replace(options, widths=(16, 32, 64, 80), hidden=96) if wanted.judging else options


def balancing(labels: Float[Tensor, "face attribute"]) -> Float[Tensor, "face attribute"]:
    """Weights of every face for every label, mean 1 in a column, under which the other labels say nothing about it.

    Stabilised inverse propensities (Robins et al. 2000): w = P(label) / P(label | other labels), the latter by a
    penalised logistic regression and clipped at ``CLIP``. A label is not balanced against one with which a combination
    of the two never occurs (hair colours; a beard and no_beard): no weights can part those. A label that does not vary
    has weights 1. ``labels``: 0 or 1.
    """
    values = labels.double().numpy()
    weights = np.ones_like(values)
    for k, own in enumerate(values.T):
        if np.ptp(own) == 0:
            continue
        cells = [np.equal(values.T, b) @ np.equal(own, a) for a in (0, 1) for b in (0, 1)]
        others = values[:, (np.min(cells, axis=0) > 0) & (np.arange(values.shape[1]) != k)]
        coefficients, constant = logistic(others, own > 0.5)
        chance = np.clip(1 / (1 + np.exp(-(others @ coefficients + constant))), CLIP, 1 - CLIP)
        raw = np.where(own > 0.5, own.mean() / chance, (1 - own.mean()) / (1 - chance))
        weights[:, k] = raw / raw.mean()
    return torch.from_numpy(weights).float()


def train_references(
    wanted: Sequence[Imperfect],
    folder: Path,
    *,
    workers: Workers = 2,
    progress: Progress = lambda stage, done, total: None,
) -> None:
    """Train what is missing below ``folder``, ``workers`` at a time, one thread each; a stopped run goes on.

    Networks of the same faces are trained one after another on faces that are rendered once.
    """
    wanted = list(dict.fromkeys(wanted))
    missing = [r for r in wanted if not weights_of(r, folder).is_file()]
    progress("reference heads", len(wanted) - len(missing), len(wanted))
    if not missing:
        return
    groups = dict.fromkeys((r.stream, r.faces) for r in missing)
    jobs = [([r for r in missing if (r.stream, r.faces) == g], folder) for g in groups]

    def tell(stage: str, done: int, total: int) -> None:
        progress(stage, sum(weights_of(r, folder).is_file() for r in wanted), len(wanted))  # a job makes several

    in_processes(_train_some, jobs, workers=workers, stage="reference heads", folder=folder, progress=tell)


def _train_some(some: Sequence[Imperfect], folder: Path) -> None:
    first = some[0]
    together = dict.fromkeys(PAIRS, first.dose) if first.dose else None
    faces = sample(first.faces, seed=first.stream, correlations=together)
    images = rendered(faces)
    labels = labelled(images, ATTRIBUTES, faces.soft_labels())
    for wanted in some:
        options = recipe(wanted)
        balanced = wanted.network.startswith("balanced")
        train_classifier(
            images,
            labels,
            out=folder / wanted.name,
            options=options,
            autoencoder=autoencoders.load("embedded") if options.reconstructed else None,
            objective=BalancedLabels(balancing(faces.labels())) if balanced else None,
        )


def load_reference(wanted: Imperfect, folder: Path) -> Classifier:
    """The trained heads. Raises BadInput where they were not trained yet."""
    file = weights_of(wanted, folder)
    if not file.is_file():
        raise BadInput(f"{wanted.name} was not trained yet in {folder}; `cfalign benchmark references` does it.")
    return from_weights(file, name=wanted.name)


def weights_of(wanted: Imperfect, folder: Path) -> Path:
    """Where its weights lie, or will."""
    return folder / wanted.name / "classifier.safetensors"
