"""Studies: the demo, planted shortcuts taken out again, and one module per experiment of the paper."""

from cfalign.experiments.comparison import Comparison, comparison
from cfalign.experiments.complete import complete
from cfalign.experiments.demo import demo
from cfalign.experiments.induced import DOSES, Induced, induced
from cfalign.experiments.material import CLASSES, Material, embedded
from cfalign.experiments.rectified import PlantedRectification, planted_rectification
from cfalign.experiments.studies import study

__all__ = [
    "CLASSES",
    "DOSES",
    "Comparison",
    "Induced",
    "Material",
    "PlantedRectification",
    "comparison",
    "complete",
    "demo",
    "embedded",
    "induced",
    "planted_rectification",
    "study",
]
