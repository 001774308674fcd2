"""Does an audit find something where there is nothing? Classifiers without a shortcut, through one bank."""

from cfalign.benchmarks.nulls.measure import nulls
from cfalign.benchmarks.nulls.options import QUICK, NullsOptions
from cfalign.benchmarks.nulls.result import Nulls

__all__ = ["QUICK", "Nulls", "NullsOptions", "nulls"]
