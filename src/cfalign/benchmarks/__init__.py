"""Claims about the method, measured against known truth on synthetic faces, and against labels on photographs.

``semantics``: does a counterfactual change what it says? · ``detection``: do effects match interventions? ·
``photographs``: do effects rank classifiers trained on confounded photographs as their worst-group gaps do?
"""

from cfalign.benchmarks.detection import Detection, detection
from cfalign.benchmarks.dose_response import Photographs
from cfalign.benchmarks.photographs import PhotographsOptions, photographs
from cfalign.benchmarks.semantics import Semantics, semantics

__all__ = [
    "Detection",
    "Photographs",
    "PhotographsOptions",
    "Semantics",
    "detection",
    "photographs",
    "semantics",
]
