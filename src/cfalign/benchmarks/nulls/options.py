"""Options of the benchmark: how many classifiers of each kind, and the effort."""

from __future__ import annotations

from cfalign._validation import Count, Whole, options


@options()
class NullsOptions:
    """How many classifiers with nothing to find are audited, and on what."""

    each: Count = 67
    """Classifiers of each of the three kinds."""
    faces: Count = 600
    """Independent faces, of the bank and for unnamed features."""
    limit: Count = 40
    """Counterfactuals per attribute and direction."""
    interventions: Count = 30
    """Faces for the true effects."""
    seed: Whole = 0


QUICK = NullsOptions(each=4, faces=300, limit=15, interventions=10)
"""A short form."""
