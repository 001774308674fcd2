"""Where batches of work run. An engine takes units and a function of one unit and yields the results in order.

``local``: this process, one unit after the other.
"""

from cfalign.engines.local import in_order

__all__ = ["in_order"]
