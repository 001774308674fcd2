"""Claims about the method, measured against known truth on synthetic faces.

``semantics``: does a counterfactual change what it says? · ``detection``: do effects match interventions?
"""

from cfalign.benchmarks.detection import Detection, detection
from cfalign.benchmarks.semantics import Semantics, semantics

__all__ = ["Detection", "Semantics", "detection", "semantics"]
