"""What the benchmark measures, and how much is spent on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cfalign.training.recipes.planted_shortcuts import DOSES, PAIRS, SEEDS

CORRELATION = 0.9
"""Of target and shortcut on the audited images."""


@dataclass(frozen=True)
class Effort:
    """How much is spent on each pair."""

    limit: int = 40
    """Counterfactuals per head and direction."""
    faces: int = 1200
    """Confounded faces that are audited."""
    interventions: int = 50
    """Faces with independent attributes, for the truth."""
    interventions_here: int = 100
    """Confounded faces, for the truth over faces as audited."""
    maps: int = 8
    """Images that saliency maps are made of; 0 leaves the maps out."""
    derivatives: int = 32
    """Images that directional derivatives are taken at."""


@dataclass(frozen=True)
class DetectionOptions:
    """What is measured."""

    pairs: tuple[tuple[str, str], ...] = PAIRS
    """(target, shortcut)"""
    doses: tuple[float, ...] = DOSES
    """Correlations in training. Without any, the shipped classifiers (0.9) and their twins (0) are audited."""
    seeds: tuple[int, ...] = SEEDS
    effort: Effort = field(default_factory=Effort)
    seed: int = 0


_LITTLE = Effort(limit=12, faces=400, interventions_here=16, maps=2, derivatives=16)
QUICK = DetectionOptions(doses=(), effort=_LITTLE)
"""A small form that needs no training."""
