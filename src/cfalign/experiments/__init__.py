"""Ready-made experiments. ``demo``: the whole method on embedded faces whose truth is known;
``rectified``: planted shortcuts taken out again."""

from cfalign.experiments.demo import demo
from cfalign.experiments.rectified import PlantedRectification, planted_rectification

__all__ = ["PlantedRectification", "demo", "planted_rectification"]
