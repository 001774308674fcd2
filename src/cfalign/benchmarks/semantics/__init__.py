"""Are counterfactuals semantic or adversarial? An independently trained judge looks at a bank of them.

============  ============================================================
``models``    heads, judge and autoencoder, where none are given
``measure``   the bank, and what the judge answers to it
``realism``   how much detail the changed parts of the images have
``sheets``    what a person sees: images of every attribute
``result``    numbers by attribute, and the headline
============  ============================================================
"""

from cfalign.benchmarks.semantics.measure import embedded_semantics, semantics
from cfalign.benchmarks.semantics.result import AttributeSemantics, JudgedEnd, Semantics

__all__ = ["AttributeSemantics", "JudgedEnd", "Semantics", "embedded_semantics", "semantics"]
