"""Where work runs: in this process, on the workers of a Ray cluster, or in parts.

A unit of the work of an audit or a bank is a chunk of images, and its result a shard of the run's folder. The bytes of
a shard follow from its chunk alone, so they are the same whatever engine made it, in whatever order; only the number of
threads per process may change their last bits, as everywhere in PyTorch.

Trainings of many classifiers run on the workers of a ``Ray`` that is given as ``workers`` (``cfalign.benchmarks``): a
unit is a training with one thread and a seed of its own, and its result the files of its folder.

``on_device`` names the device of everything inside it; settings of a call (``AuditOptions.device`` and its like) that
of one call.
"""

from cfalign._models.device import on_device
from cfalign.engines.crew import Crew, Engine
from cfalign.engines.local import Local
from cfalign.engines.part import Part
from cfalign.engines.ray_cluster import Ray
from cfalign.engines.using import current, using

__all__ = ["Crew", "Engine", "Local", "Part", "Ray", "current", "on_device", "using"]
