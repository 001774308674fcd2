"""Robust training on confounded faces: the same network, faces and recipe as a planted classifier, by five methods.

======================  ====================================================================================
``erm``                 the mean loss, as ``planted`` trains
``group_dro``           Sagawa et al. 2020: the worst group's loss; knows every training face's group
``jtt``                 Liu et al. 2021: a first model is trained briefly, and the faces it gets wrong weigh more
``dfr``                 Kirichenko et al. 2022: the last layer of ``erm`` anew, on a few faces of balanced groups
``rex``                 Krueger et al. 2021 (V-REx): the variance of the loss between two environments costs
======================  ====================================================================================

A group is a face's target and shortcut, each on or off. V-REx stands for the invariance penalties rather than FLAC,
which needs a second network that captures the bias, so that its result depends on that network too. Its environments
are the training faces themselves, parted so that target and shortcut are correlated more in one than in the other;
at dose 1 no face tells them apart, and it can do no more than ``erm``.

What the methods are told differs, as in their papers: ``erm`` and ``jtt`` no groups, ``rex`` environments,
``group_dro`` all groups, ``dfr`` groups of a few faces, but those without the correlation. Step, weight and penalty
were fixed on oval_face ← mustache at dose 0.9, a pair that ``benchmarks.robustness`` does not use; there weights of 20
and more and penalties of 30 and more did harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cfalign._errors import BadInput
from cfalign._runs.progress import Progress
from cfalign._types import Classifier
from cfalign.classifiers.by_spec import from_weights
from cfalign.datasets import Labels, TensorImages
from cfalign.synthetic import ATTRIBUTES, Faces, sample
from cfalign.training.classifier import train_classifier
from cfalign.training.objectives import GroupDRO, Objective, VREx, Weighted
from cfalign.training.processes import Workers, in_processes
from cfalign.training.recipes.embedded import rendered
from cfalign.training.recipes.last_layer import retrained
from cfalign.training.recipes.planted_shortcuts import Plant, material, recipe

METHODS = ("erm", "group_dro", "jtt", "dfr", "rex")
DRO_STEP = 0.1
"""η of the group weights: ten times the paper's, for trainings of hundreds of steps instead of ten thousands."""
JTT_EPOCHS = 1.0
"""How long the model whose errors are looked for is trained."""
JTT_WEIGHT = 6.0
"""Of a face that it gets wrong; the others weigh 1."""
DFR_GROUP = 100
"""Held-out faces of each of the four groups."""
REX_PENALTY = 10.0
"""β of the variance between environments."""
REX_APART = 0.9
"""Share of the faces on which target and shortcut differ that go to the second environment; of the others, half."""


@dataclass(frozen=True, order=True)
class Robust:
    """One classifier to be trained."""

    plant: Plant
    method: str

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadInput(f"Unknown training method {self.method!r}; expected one of {', '.join(METHODS)}.")

    @property
    def name(self) -> str:
        """``TARGET_from_SHORTCUT@DOSE#SEED.METHOD``; also the name of its folder."""
        return f"{self.plant.name}.{self.method}"


@dataclass(frozen=True)
class _ConfoundedFaces:
    faces: Faces
    images: TensorImages
    labels: Labels

    @property
    def target(self) -> Bool[Tensor, " face"]:
        return torch.from_numpy(self.labels.values[:, 0] > 0.5)

    def groups(self, wanted: Plant) -> Int64[Tensor, " face"]:
        return groups(self.faces, target=wanted.target, shortcut=wanted.shortcut)


def groups(faces: Faces, *, target: str, shortcut: str) -> Int64[Tensor, " face"]:
    """2 · target + shortcut, of labels 0 or 1: 1 and 2 are those on which the two differ."""
    label, short = (faces.labels()[:, ATTRIBUTES.index(name)].long() for name in (target, shortcut))
    return 2 * label + short


def train_robust(wanted: Robust, folder: Path) -> Path:
    """Train one below ``folder``, or go on with it, or find it done; the path of its weights."""
    _train_some(wanted.plant, (wanted.method,), folder)
    return weights_of(wanted, folder)


def train_all_robust(
    wanted: Sequence[Robust],
    folder: Path,
    *,
    workers: Workers = 2,
    progress: Progress = lambda stage, done, total: None,
) -> None:
    """Train what is missing below ``folder``, ``workers`` at a time, one thread each; a stopped run goes on.

    The methods of one plant are trained one after another on faces that are rendered once.
    """
    wanted = list(dict.fromkeys(wanted))
    missing = [r for r in wanted if not weights_of(r, folder).is_file()]
    progress("robust classifiers", len(wanted) - len(missing), len(wanted))
    if not missing:
        return
    jobs = [
        (plant, tuple(r.method for r in missing if r.plant == plant), folder)
        for plant in dict.fromkeys(r.plant for r in missing)
    ]

    def tell(stage: str, done: int, total: int) -> None:
        progress(stage, sum(weights_of(r, folder).is_file() for r in wanted), len(wanted))  # a job makes several

    in_processes(_train_some, jobs, workers=workers, stage="robust classifiers", folder=folder, progress=tell)


def load_robust(wanted: Robust, folder: Path) -> Classifier:
    """The trained classifier. Raises BadInput where it was not trained yet."""
    file = weights_of(wanted, folder)
    if not file.is_file():
        raise BadInput(f"{wanted.name} was not trained yet in {folder}; `cfalign benchmark robustness` does it.")
    return from_weights(file, name=wanted.name)


def weights_of(wanted: Robust, folder: Path) -> Path:
    """Where its weights lie, or will."""
    return folder / wanted.name / "classifier.safetensors"


def _train_some(plant: Plant, methods: Sequence[str], folder: Path) -> None:
    """The methods in the order of METHODS: ``dfr`` stands on ``erm``."""
    given = _ConfoundedFaces(*material(plant))
    for method in sorted({*methods, *(("erm",) if "dfr" in methods else ())}, key=METHODS.index):
        wanted = Robust(plant, method)
        if method == "dfr":
            _last_layer(wanted, folder)
        else:
            _train(wanted, given, folder, objective=_OBJECTIVES[method](wanted, given, folder))


def _train(
    wanted: Robust,
    given: _ConfoundedFaces,
    folder: Path,
    *,
    objective: Objective,
    epochs: float | None = None,
    part: str = "",
) -> Path:
    options = recipe(wanted.plant)
    options = options if epochs is None else replace(options, epochs=epochs)
    out = folder / (wanted.name + part)
    return train_classifier(given.images, given.labels, out=out, options=options, objective=objective).weights


def _erm(wanted: Robust, given: _ConfoundedFaces, folder: Path) -> Objective:
    return Weighted(torch.ones(len(given.faces)))


def _group_dro(wanted: Robust, given: _ConfoundedFaces, folder: Path) -> Objective:
    return GroupDRO(given.groups(wanted.plant), step=DRO_STEP)


def _rex(wanted: Robust, given: _ConfoundedFaces, folder: Path) -> Objective:
    return VREx(environments(given.groups(wanted.plant), seed=wanted.plant.stream), penalty=REX_PENALTY)


def environments(groups: Int64[Tensor, " face"], *, seed: int) -> Int64[Tensor, " face"]:
    """0 or 1 of every face: those on which target and shortcut differ are mostly in 1 (``REX_APART``), the others in
    either alike.
    """
    drawn = torch.from_numpy(np.random.default_rng([seed, 1]).random(len(groups)))
    differ = (groups == 1) | (groups == 2)
    return (drawn < torch.where(differ, REX_APART, 0.5)).long()


def _jtt(wanted: Robust, given: _ConfoundedFaces, folder: Path) -> Objective:
    first = _train(
        wanted, given, folder, objective=_erm(wanted, given, folder), epochs=JTT_EPOCHS, part=".identification"
    )
    model = from_weights(first, name="identification")
    with torch.no_grad():
        images = given.images.load(range(len(given.faces))).images
        logits = torch.cat([model.logits(part)[:, 0] for part in images.split(256)])
    return Weighted(upweighted(logits, given.target))


def upweighted(logits: Float[Tensor, " face"], labels: Bool[Tensor, " face"]) -> Float[Tensor, " face"]:
    """``JTT_WEIGHT`` for every face whose prediction (logit above 0) is wrong, 1 for the others."""
    return torch.where((logits > 0) != labels, JTT_WEIGHT, 1.0)


_OBJECTIVES: dict[str, Callable[[Robust, _ConfoundedFaces, Path], Objective]] = {
    "erm": _erm,
    "group_dro": _group_dro,
    "jtt": _jtt,
    "rex": _rex,
}


def _last_layer(wanted: Robust, folder: Path) -> None:
    plant = wanted.plant
    faces = balanced(plant, each=DFR_GROUP)
    label = faces.labels()[:, ATTRIBUTES.index(plant.target)] > 0.5
    first = weights_of(Robust(plant, "erm"), folder)
    retrained(first, rendered(faces), label, out=folder / wanted.name, options=recipe(plant))


def balanced(wanted: Plant, *, each: int) -> Faces:
    """Held-out faces, ``each`` of every group of target and shortcut; all attributes are independent in a group."""
    drawn = sample(8 * each + 64, seed=wanted.stream + 50)
    of = groups(drawn, target=wanted.target, shortcut=wanted.shortcut)
    chosen = [torch.nonzero(of == g).flatten()[:each] for g in range(4)]
    if min(len(rows) for rows in chosen) < each:
        raise BadInput(f"Of {len(drawn)} faces drawn for {wanted.name}, a group has fewer than {each}.")
    return drawn[torch.cat(chosen)]
