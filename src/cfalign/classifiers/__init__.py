"""Classifiers: named heads over one image batch.

``loading`` by spec · ``wrapped`` a torch module with targets and link · ``preprocessing`` what comes before it ·
``black_box`` any callable · ``composed`` a composition of heads, as one head · ``exported`` TorchScript and
``torch.export`` files, ``onnx_file``, with what is ``beside`` them, ``vetting`` and ``batches`` · ``endpoint`` a
server · ``network`` the one cfalign trains
"""

from cfalign.classifiers.black_box import BlackBox, black_box
from cfalign.classifiers.composed import ComposedClassifier
from cfalign.classifiers.loading import load, planted
from cfalign.classifiers.preprocessing import Preprocessing
from cfalign.classifiers.wrapped import WrappedClassifier, wrap

__all__ = [
    "BlackBox",
    "ComposedClassifier",
    "Preprocessing",
    "WrappedClassifier",
    "black_box",
    "load",
    "planted",
    "wrap",
]
