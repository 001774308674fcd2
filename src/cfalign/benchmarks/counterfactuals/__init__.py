"""Which method makes the better counterfactuals, and at what cost?"""

from cfalign.benchmarks.counterfactuals.measure import counterfactuals
from cfalign.benchmarks.counterfactuals.options import METHODS, BenchmarkOptions, named
from cfalign.benchmarks.counterfactuals.result import Comparison

__all__ = ["METHODS", "BenchmarkOptions", "Comparison", "counterfactuals", "named"]
