"""How accurate are effects when the reference heads learnt from confounded faces?"""

from cfalign.benchmarks.references.measure import references
from cfalign.benchmarks.references.options import QUICK, ReferencesOptions
from cfalign.benchmarks.references.result import References

__all__ = ["QUICK", "References", "ReferencesOptions", "references"]
