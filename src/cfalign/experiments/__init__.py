"""Ready-made experiments. ``demo``: the whole method on embedded faces whose truth is known."""

from cfalign.experiments.demo import demo

__all__ = ["demo"]
