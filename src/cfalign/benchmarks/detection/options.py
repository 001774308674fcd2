"""Options of the benchmark: pairs, doses, seeds, and the effort per pair."""

from __future__ import annotations

from dataclasses import field

from cfalign._validation import Correlation, Count, Whole, options
from cfalign.training.recipes.planted_shortcuts import DOSES, PAIRS, SEEDS

CORRELATION = 0.9
"""Correlation of target and shortcut on the audited images."""


@options()
class Effort:
    """Numbers of images that each pair is measured on."""

    limit: Count = 40
    """Counterfactuals per head and direction."""
    faces: Count = 1200
    """Confounded faces that are audited."""
    interventions: Count = 50
    """Faces with independent attributes, for the truth."""
    interventions_here: Count = 100
    """Confounded faces, for the truth over faces as audited."""
    maps: Whole = 8
    """Images for saliency maps; 0 leaves the maps out."""
    derivatives: Count = 32
    """Images for directional derivatives."""


@options()
class DetectionOptions:
    """Pairs, doses and seeds that are measured, and the effort per pair."""

    pairs: tuple[tuple[str, str], ...] = PAIRS
    """(target, shortcut)"""
    doses: tuple[Correlation, ...] = DOSES
    """Correlations in training. An empty tuple audits the shipped classifiers (0.9) and their twins (0)."""
    seeds: tuple[Whole, ...] = SEEDS
    effort: Effort = field(default_factory=Effort)
    seed: Whole = 0


_LITTLE = Effort(limit=12, faces=400, interventions_here=16, maps=2, derivatives=16)
QUICK = DetectionOptions(doses=(), effort=_LITTLE)
"""A short form without training."""
