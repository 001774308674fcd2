"""What does a counterfactual cost, beside the authors' own package and beside the least that it can cost?

===============  ========================================================================
``setting``      images, autoencoder, classifier and bases that every contestant gets
``counting``     models that count the images that pass through them
``contestants``  the bare method and the default audit, as a user would call them
``authors``      the authors' package (``latentshift``), imported and run as it is
``floor``        seconds of single passes, and what a counterfactual costs at the least
``apart``        one contestant in a process of its own: its passes and its peak memory
``agreement``    the alignment matrices of both, cell by cell
``measure``      the order of all that
``result``       numbers, table and headline; ``drawing``: the figure
===============  ========================================================================
"""

from cfalign.benchmarks.speed.measure import speed
from cfalign.benchmarks.speed.options import SpeedOptions
from cfalign.benchmarks.speed.result import Speed

__all__ = ["Speed", "SpeedOptions", "speed"]
