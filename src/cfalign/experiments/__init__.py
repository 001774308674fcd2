"""Studies: the demo, planted shortcuts taken out again, and one module per experiment of the paper."""

from cfalign.experiments.collection import (
    Collection,
    beside_the_paper,
    collection,
    grid,
    iterations,
    matrices,
    with_common_shortcut,
)
from cfalign.experiments.comparison import Comparison, comparison
from cfalign.experiments.complete import complete
from cfalign.experiments.demo import demo
from cfalign.experiments.induced import DOSES, Induced, induced
from cfalign.experiments.material import CLASSES, Material, embedded
from cfalign.experiments.planted import PlantedRectification, planted_rectification
from cfalign.experiments.studies import study

__all__ = [
    "CLASSES",
    "DOSES",
    "Collection",
    "Comparison",
    "Induced",
    "Material",
    "PlantedRectification",
    "beside_the_paper",
    "collection",
    "comparison",
    "complete",
    "demo",
    "embedded",
    "grid",
    "induced",
    "iterations",
    "matrices",
    "planted_rectification",
    "study",
    "with_common_shortcut",
]
