"""Options of the benchmark: pairs, doses, seeds, and numbers of images."""

from __future__ import annotations

from dataclasses import field, replace
from typing import Annotated

from pydantic import Field

from cfalign._errors import BadInput
from cfalign._types import Residual
from cfalign._validation import Count, Share, Whole, options
from cfalign.training import ClassifierTraining
from cfalign.training.recipes.confounded_subsets import RECIPE

PAIRS = (
    ("smiling", "eyeglasses"),
    ("blond_hair", "male"),
    ("young", "wearing_hat"),
    ("smiling", "male"),
    ("mouth_slightly_open", "heavy_makeup"),
    ("young", "wearing_lipstick"),
    ("arched_eyebrows", "smiling"),
)
"""(target, confounder): attributes of CelebA."""
DOSES = (0.0, 0.5, 0.8, 0.95, 1.0)


@options()
class PhotographsOptions:
    """Classifiers that are trained, and the images that they are measured on."""

    pairs: tuple[tuple[str, str], ...] = PAIRS
    doses: tuple[Share, ...] = DOSES
    seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] = (0, 1)
    limit: Count = 150
    """Counterfactuals per reference head."""
    least: Count = 200
    """Fewest training images; a dose with fewer is left out."""
    most: Count = 2500
    """Most training images per classifier."""
    per_group: Count = 500
    """Most images per group for measuring the gaps."""
    train_split: str = "train"
    split: str = "val"
    """Split of the images for effects and gaps."""
    residual: Residual | None = None
    """What becomes of what the autoencoder cannot draw of an image, as of ``SearchOptions``."""
    seed: Whole = 0
    recipe: ClassifierTraining = field(default=RECIPE)

    def __post_init__(self) -> None:
        if not self.pairs or any(target == confounder for target, confounder in self.pairs):
            raise BadInput(f"pairs: expected pairs TARGET:CONFOUNDER of two attributes, got {list(self.pairs)}.")
        if len(set(self.doses)) < 2:
            raise BadInput(f"doses: expected two or more different doses, got {list(self.doses)}.")
        if self.split == self.train_split:
            raise BadInput(f"split: expected another split than train_split, got {self.split!r} for both.")


QUICK = PhotographsOptions(
    pairs=PAIRS[3:5],
    doses=(0.0, 0.8, 1.0),
    seeds=(0,),
    limit=15,
    most=1000,
    per_group=150,
    recipe=replace(RECIPE, steps=120),
)
"""A short form."""
