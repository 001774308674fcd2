"""Do effects and alignment of a shortcut follow the gap of the worst group under robust training?"""

from cfalign.benchmarks.robustness.measure import QUICK, RobustnessOptions
from cfalign.benchmarks.robustness.result import Robustness, robustness

__all__ = ["QUICK", "Robustness", "RobustnessOptions", "robustness"]
