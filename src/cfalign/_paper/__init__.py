"""Studies: the demo, planted shortcuts taken out again, and one module per experiment of the paper."""

from cfalign._paper.collection import (
    Collection,
    beside_the_paper,
    collection,
    grid,
    iterations,
    matrices,
    with_common_shortcut,
)
from cfalign._paper.comparison import Comparison, comparison
from cfalign._paper.complete import complete
from cfalign._paper.demo import demo
from cfalign._paper.induced import DOSES, Induced, induced
from cfalign._paper.material import CLASSES, Material, embedded
from cfalign._paper.planted import PlantedRectification, planted_rectification
from cfalign._paper.saliency import ALIGNMENT_READINGS, SaliencyStudy, saliency_study
from cfalign._paper.studies import study

__all__ = [
    "ALIGNMENT_READINGS",
    "CLASSES",
    "DOSES",
    "Collection",
    "Comparison",
    "Induced",
    "Material",
    "PlantedRectification",
    "SaliencyStudy",
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
    "saliency_study",
    "study",
    "with_common_shortcut",
]
