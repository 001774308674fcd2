"""Which classifiers are trained on photographs, and how much is spent on measuring them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from cfalign._errors import BadInput
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
"""(target, confounder), attributes of CelebA."""
DOSES = (0.0, 0.5, 0.8, 0.95, 1.0)


@dataclass(frozen=True)
class PhotographsOptions:
    """What is trained and measured."""

    pairs: tuple[tuple[str, str], ...] = PAIRS
    doses: tuple[float, ...] = DOSES
    seeds: tuple[int, ...] = (0, 1)
    limit: int = 150
    """Counterfactuals per reference head."""
    least: int = 200
    """Training images; a dose with fewer is left out."""
    most: int = 2500
    per_group: int = 500
    """Images per group that the gaps are measured on."""
    train_split: str = "train"
    split: str = "val"
    """What is measured on."""
    seed: int = 0
    recipe: ClassifierTraining = field(default=RECIPE)

    def __post_init__(self) -> None:
        if not self.pairs or any(target == confounder for target, confounder in self.pairs):
            raise BadInput(f"Expected pairs TARGET:CONFOUNDER of two attributes, got {list(self.pairs)}.")
        if not self.seeds:
            raise BadInput("Expected at least one seed, got none.")
        if len(set(self.doses)) < 2 or not all(0 <= dose <= 1 for dose in self.doses):
            raise BadInput(f"Expected two or more different doses, correlations from 0 to 1, got {list(self.doses)}.")
        if self.split == self.train_split:
            raise BadInput(f"Expected two different splits to train and to measure on, got {self.split!r} for both.")
        for name in ("limit", "least", "most", "per_group"):
            if getattr(self, name) < 1:
                raise BadInput(f"Expected {name} of at least 1, got {getattr(self, name)!r}.")


QUICK = PhotographsOptions(
    pairs=PAIRS[3:5],
    doses=(0.0, 0.8, 1.0),
    seeds=(0,),
    limit=15,
    most=1000,
    per_group=150,
    recipe=replace(RECIPE, steps=120),
)
"""A small form."""
