"""Are shortcuts found that no reference head names? Planted classifiers, audited without the head of their shortcut."""

from cfalign.benchmarks.unnamed.measure import unnamed
from cfalign.benchmarks.unnamed.options import QUICK, UnnamedOptions
from cfalign.benchmarks.unnamed.result import Unnamed

__all__ = ["QUICK", "Unnamed", "UnnamedOptions", "unnamed"]
