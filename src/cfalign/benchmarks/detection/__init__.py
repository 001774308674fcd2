"""Do estimated effects match interventions? Classifiers with planted shortcuts, on confounded faces, all detectors."""

from cfalign.benchmarks.detection.measure import QUICK, Detection, DetectionOptions, detection

__all__ = ["QUICK", "Detection", "DetectionOptions", "detection"]
