"""Do estimated effects match interventions? Classifiers with planted shortcuts, on confounded faces, all detectors."""

from cfalign.benchmarks.detection.measure import detection
from cfalign.benchmarks.detection.options import QUICK, DetectionOptions
from cfalign.benchmarks.detection.result import Detection

__all__ = ["QUICK", "Detection", "DetectionOptions", "detection"]
