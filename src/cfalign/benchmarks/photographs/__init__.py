"""Do effects rank classifiers trained on confounded photographs as their worst-group gaps do?"""

from cfalign.benchmarks.photographs.measure import photographs
from cfalign.benchmarks.photographs.options import DOSES, PAIRS, QUICK, PhotographsOptions
from cfalign.benchmarks.photographs.result import Photographs

__all__ = ["DOSES", "PAIRS", "QUICK", "Photographs", "PhotographsOptions", "photographs"]
