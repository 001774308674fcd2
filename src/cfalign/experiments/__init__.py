"""Studies: the demo, and one module per experiment of the paper."""

from cfalign.experiments.comparison import Comparison, comparison
from cfalign.experiments.complete import complete
from cfalign.experiments.demo import demo
from cfalign.experiments.induced import DOSES, Induced, induced
from cfalign.experiments.material import CLASSES, Material, embedded
from cfalign.experiments.studies import study

__all__ = [
    "CLASSES",
    "DOSES",
    "Comparison",
    "Induced",
    "Material",
    "comparison",
    "complete",
    "demo",
    "embedded",
    "induced",
    "study",
]
