"""What are effects worth when the reference heads themselves were learnt from confounded faces?"""

from cfalign.benchmarks.references.measure import references
from cfalign.benchmarks.references.result import QUICK, References, ReferencesOptions

__all__ = ["QUICK", "References", "ReferencesOptions", "references"]
