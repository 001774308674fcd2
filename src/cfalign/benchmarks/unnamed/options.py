"""Options of the benchmark: which planted classifiers, and the effort for each."""

from __future__ import annotations

from cfalign._validation import Correlation, Count, Whole, options
from cfalign.training.recipes.planted_shortcuts import PAIRS

DOSE = 0.9


@options()
class UnnamedOptions:
    """Pairs, doses and seeds that are audited, and the effort for each classifier."""

    pairs: tuple[tuple[str, str], ...] = PAIRS
    """(target, shortcut)"""
    doses: tuple[Correlation, ...] = (DOSE, 0.0)
    """Correlations in training; at 0 there is nothing to find."""
    seeds: tuple[Whole, ...] = (0, 1)
    images: Count = 600
    """Independent faces that are audited."""
    judged: Count = 400
    """Other independent faces, on which a feature is compared with the true factor."""
    interventions: Count = 50
    """Faces for the true effects."""
    named: bool = False
    """Whether features that are found are named, and audited again with the head of the name."""
    limit: Count = 60
    """Counterfactuals per head of that audit."""
    seed: Whole = 0


QUICK = UnnamedOptions(seeds=(0,), images=400, judged=200, interventions=16)
"""A short form."""
