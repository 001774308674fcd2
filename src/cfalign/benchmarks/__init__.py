"""Claims about the method, measured against known truth on synthetic faces.

``semantics``: does a counterfactual change what it says? · ``detection``: do effects match interventions? ·
``robustness``: do they follow the gap of the worst group under robust training?
"""

from cfalign.benchmarks.detection import Detection, detection
from cfalign.benchmarks.robustness import Robustness, robustness
from cfalign.benchmarks.semantics import Semantics, semantics

__all__ = ["Detection", "Robustness", "Semantics", "detection", "robustness", "semantics"]
