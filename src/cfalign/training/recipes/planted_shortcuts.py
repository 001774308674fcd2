"""Classifiers with a planted shortcut, at doses from none to complete: the material of the benchmarks.

A classifier of one target is trained on rendered faces on which the target's label and another attribute, its
*shortcut*, are correlated. The correlation is the *dose*; at 0 the two are independent and nothing is planted. What a
classifier then really uses is not the dose but what interventions say (``synthetic.effect``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cfalign._errors import BadInput
from cfalign._runs.progress import Progress
from cfalign._types import Classifier
from cfalign.classifiers.by_spec import from_weights
from cfalign.datasets import Labels, TensorImages
from cfalign.synthetic import ATTRIBUTES, DERIVED, INTERVENABLE, Faces, sample
from cfalign.training.classifier import train_classifier
from cfalign.training.options import ClassifierTraining
from cfalign.training.processes import Workers, in_processes
from cfalign.training.recipes.embedded import PAIRS as SHIPPED_PAIRS
from cfalign.training.recipes.embedded import PLANTED_FACES, RECIPE, labelled, rendered

PAIRS = (
    *SHIPPED_PAIRS,
    ("smiling", "wearing_earrings"),
    ("pointy_nose", "rosy_cheeks"),
    ("arched_eyebrows", "eye_shadow"),
    ("bushy_eyebrows", "wavy_hair"),
)
"""(target, shortcut); eyeglasses, hats and earrings are objects."""
DOSES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Correlations of target and shortcut in training."""
SEEDS = (0, 1, 2)


@dataclass(frozen=True, order=True)
class Plant:
    """One classifier to be trained."""

    target: str
    shortcut: str
    dose: float
    seed: int
    faces: int = PLANTED_FACES
    """Faces it is trained on."""

    def __post_init__(self) -> None:
        for name in (self.target, self.shortcut):
            if name in DERIVED or name not in INTERVENABLE:
                raise BadInput(f"A plant needs attributes that interventions can set, got {name!r}.")
        if not 0 <= self.dose <= 1:
            raise BadInput(f"A dose is a correlation in [0, 1], got {self.dose!r}.")

    @property
    def name(self) -> str:
        """``TARGET_from_SHORTCUT@DOSE#SEED``; also the name of its folder."""
        return f"{self.target}_from_{self.shortcut}@{self.dose:g}#{self.seed}"

    @property
    def stream(self) -> int:
        """Seed of its faces and of its training."""
        place = (ATTRIBUTES.index(self.target) * len(ATTRIBUTES) + ATTRIBUTES.index(self.shortcut)) * 1000
        return 1_000_000 + 100 * (place + round(100 * self.dose)) + self.seed


def plants(
    *,
    pairs: Sequence[tuple[str, str]] = PAIRS,
    doses: Sequence[float] = DOSES,
    seeds: Sequence[int] = SEEDS,
) -> tuple[Plant, ...]:
    """Every pair at every dose and seed."""
    return tuple(Plant(t, s, dose, seed) for t, s in pairs for dose in doses for seed in seeds)


def plant(wanted: Plant, folder: Path) -> Path:
    """Train one below ``folder``, or go on with it, or find it done; the path of its weights."""
    _, images, label = material(wanted)
    return train_classifier(images, label, out=folder / wanted.name, options=recipe(wanted)).weights


def material(wanted: Plant) -> tuple[Faces, TensorImages, Labels]:
    """The confounded faces that a plant is trained on, rendered, and their labels."""
    together = {(wanted.target, wanted.shortcut): wanted.dose} if wanted.dose else None
    faces = sample(wanted.faces, seed=wanted.stream, correlations=together)
    images = rendered(faces)
    return faces, images, labelled(images, (wanted.target,), faces.labels()[:, [ATTRIBUTES.index(wanted.target)]])


def recipe(wanted: Plant) -> ClassifierTraining:
    """How a plant is trained."""
    return replace(RECIPE.planted, seed=wanted.stream)


def plant_all(
    wanted: Sequence[Plant], folder: Path, *, workers: Workers = 2, progress: Progress = lambda stage, done, total: None
) -> None:
    """Train what is missing below ``folder``, ``workers`` at a time, one thread each; about 15 s for each.

    A stopped run goes on where it was.
    """
    missing = [p for p in dict.fromkeys(wanted) if not _weights(p, folder).is_file()]
    jobs = [(p, folder) for p in missing]
    done = len(wanted) - len(missing)
    in_processes(plant, jobs, workers=workers, stage="planted classifiers", folder=folder, done=done, progress=progress)


def load_plant(wanted: Plant, folder: Path) -> Classifier:
    """The trained classifier. Raises BadInput where it was not trained yet."""
    file = _weights(wanted, folder)
    if not file.is_file():
        raise BadInput(f"{wanted.name} was not trained yet in {folder}; `cfalign train planted` does it.")
    return from_weights(file, name=wanted.name)


def _weights(wanted: Plant, folder: Path) -> Path:
    return folder / wanted.name / "classifier.safetensors"
