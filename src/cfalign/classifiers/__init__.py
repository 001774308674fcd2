"""Classifiers: named heads over one image batch.

``load`` (``by_spec``) · ``wrap`` a torch module (``wrapped_classifier``, with its ``preprocessing`` and
``outputs``) · ``black_box`` any callable · ``composed_classifier`` a composition of heads as one head, and
``saved_composition`` on disk · ``families`` of libraries · ``exported`` files and servers · ``attribute_network`` the
one that cfalign trains
"""

from cfalign.classifiers.black_box import BlackBox, black_box
from cfalign.classifiers.by_spec import load, planted
from cfalign.classifiers.composed_classifier import ComposedClassifier
from cfalign.classifiers.preprocessing import Preprocessing
from cfalign.classifiers.wrapped_classifier import WrappedClassifier, wrap

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
