"""Do effects rank classifiers trained on confounded photographs as their worst-group gaps do?"""

from cfalign.benchmarks.photographs.measure import DOSES, PAIRS, PhotographsOptions, photographs
from cfalign.benchmarks.photographs.result import Photographs

__all__ = ["DOSES", "PAIRS", "Photographs", "PhotographsOptions", "photographs"]
