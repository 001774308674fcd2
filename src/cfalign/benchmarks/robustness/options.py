"""Which classifiers are trained by which methods, and how much is spent on measuring them."""

from __future__ import annotations

from dataclasses import dataclass

from cfalign.training.recipes.planted_shortcuts import PAIRS, SEEDS, Plant
from cfalign.training.recipes.robust_methods import METHODS, Robust

CONTROL = 0.0
"""Dose of the classifiers in which nothing is planted."""


@dataclass(frozen=True)
class RobustnessOptions:
    """What is trained and measured."""

    pairs: tuple[tuple[str, str], ...] = PAIRS[:3]
    """(target, shortcut): two objects (eyeglasses, a hat) and a texture (pale skin)."""
    doses: tuple[float, ...] = (0.5, 0.9, 1.0)
    """Of all methods; ``erm`` is trained at ``CONTROL`` too."""
    seeds: tuple[int, ...] = SEEDS
    methods: tuple[str, ...] = METHODS
    training_faces: int = 2000
    faces: int = 600
    """Confounded faces that are audited."""
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
    pairs=PAIRS[:1],
    doses=(0.9, 1.0),
    seeds=(0,),
    training_faces=600,
    faces=240,
    limit=10,
    independent=400,
    interventions=24,
)
"""A small form."""
