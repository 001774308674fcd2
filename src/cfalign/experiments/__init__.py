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
from cfalign.experiments.saliency import ALIGNMENT_READINGS, SaliencyStudy, saliency_study
from cfalign.experiments.studies import study

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
