"""Claims about the method, measured against known truth on synthetic faces.

``semantics``: does a counterfactual change what it says? · ``detection``: do effects match interventions? ·
``counterfactuals``: which method makes the better counterfactuals, and at what cost? ·
``robustness``: do they follow the gap of the worst group under robust training?
"""

from cfalign.benchmarks.comparison import Comparison
from cfalign.benchmarks.counterfactuals import BenchmarkOptions, counterfactuals
from cfalign.benchmarks.detection import Detection, DetectionOptions, detection
from cfalign.benchmarks.robustness import Robustness, robustness
from cfalign.benchmarks.semantics import Semantics, semantics

__all__ = [
    "BenchmarkOptions",
    "Comparison",
    "Detection",
    "DetectionOptions",
    "Robustness",
    "Semantics",
    "counterfactuals",
    "detection",
    "robustness",
    "semantics",
]
