"""Benchmarks: claims about the method, measured against the truth on rendered faces and against labels on photographs.

``semantics``: does a counterfactual change what it says? · ``detection``: do effects match interventions? ·
``counterfactuals``: which method makes the better counterfactuals, and at what cost? ·
``robustness``: do effects follow the worst-group gap under robust training? ·
``photographs``: do effects rank classifiers trained on confounded photographs as their worst-group gaps do? ·
``references``: how accurate are effects when the reference heads learnt from confounded images? ·
``truth``: what is the true effect of every attribute on a classifier? ·
``unnamed``: are shortcuts found that no reference head names? ·
``nulls``: does an audit find something where there is nothing? ·
``speed``: what does a counterfactual cost?
"""

from cfalign.benchmarks.counterfactuals import BenchmarkOptions, Comparison, counterfactuals
from cfalign.benchmarks.detection import Detection, DetectionOptions, detection
from cfalign.benchmarks.nulls import Nulls, NullsOptions, nulls
from cfalign.benchmarks.photographs import Photographs, PhotographsOptions, photographs
from cfalign.benchmarks.references import References, ReferencesOptions, references
from cfalign.benchmarks.robustness import Robustness, robustness
from cfalign.benchmarks.semantics import Semantics, embedded_semantics, semantics
from cfalign.benchmarks.speed import Speed, SpeedOptions, speed
from cfalign.benchmarks.truth import Truth, truth
from cfalign.benchmarks.unnamed import Unnamed, UnnamedOptions, unnamed

__all__ = [
    "BenchmarkOptions",
    "Comparison",
    "Detection",
    "DetectionOptions",
    "Nulls",
    "NullsOptions",
    "Photographs",
    "PhotographsOptions",
    "References",
    "ReferencesOptions",
    "Robustness",
    "Semantics",
    "Speed",
    "SpeedOptions",
    "Truth",
    "Unnamed",
    "UnnamedOptions",
    "counterfactuals",
    "detection",
    "embedded_semantics",
    "nulls",
    "photographs",
    "references",
    "robustness",
    "semantics",
    "speed",
    "truth",
    "unnamed",
]
