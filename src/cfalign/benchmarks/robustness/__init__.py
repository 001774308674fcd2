"""Do effects and alignment of a shortcut follow the worst-group gap under robust training?"""

from cfalign.benchmarks.robustness.measure import robustness
from cfalign.benchmarks.robustness.options import QUICK, RobustnessOptions
from cfalign.benchmarks.robustness.result import Robustness

__all__ = ["QUICK", "Robustness", "RobustnessOptions", "robustness"]
