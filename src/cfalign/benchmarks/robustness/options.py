"""Options of the benchmark: pairs, doses, training methods, and numbers of faces."""

from __future__ import annotations

from cfalign._validation import Correlation, Count, Whole, options
from cfalign.training.recipes.planted_shortcuts import PAIRS, SEEDS, Plant
from cfalign.training.recipes.robust_methods import METHODS, Robust

CONTROL = 0.0
"""Dose of the classifiers without a planted shortcut."""


@options()
class RobustnessOptions:
    """Classifiers that are trained, and the faces that they are measured on."""

    pairs: tuple[tuple[str, str], ...] = PAIRS[:3]
    """(target, shortcut): two objects (eyeglasses, a hat) and a texture (pale skin)."""
    doses: tuple[Correlation, ...] = (0.5, 0.9, 1.0)
    """Doses of all methods; ``erm`` is also trained at ``CONTROL``."""
    seeds: tuple[Whole, ...] = SEEDS
    methods: tuple[str, ...] = METHODS
    training_faces: Count = 2000
    faces: Count = 600
    """Confounded faces that are audited."""
    limit: Count = 40
    """Counterfactuals per head."""
    independent: Count = 4000
    """Faces for accuracies."""
    interventions: Count = 200
    """Faces for true effects."""
    seed: Whole = 0

    def wanted(self) -> tuple[Robust, ...]:
        """Every classifier to train."""
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
"""A short form."""
