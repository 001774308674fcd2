"""Classifiers: named heads over one batch of images.

    clf = load("embedded")                              # by spec: a name, a file, a factory, FAMILY:NAME, an address
    clf = wrap(network, ["smiling", "young"])           # a torch module
    clf = black_box(function, ["smiling"])              # any callable, without gradients
    clf["smiling"] + 0.3 * clf["young"]                 # a composition

=======================  ===================================================================================
``by_spec``              ``load``, and ``planted``, the shipped classifiers with a planted shortcut
``wrapped_classifier``   ``wrap``, and ``WrappedClassifier``, which it returns
``black_box``            ``black_box``, and ``BlackBox``, which it returns
``preprocessing``        from images in [0, 1] to a model's input
``outputs``              from a model's outputs to logits
``composed_classifier``  a composition of heads as a classifier of its own
``joined``               the heads of several classifiers as one
``saved_composition``    a composition as a file
``attribute_network``    the network that cfalign trains
``families``             one module per family of ``FAMILY:NAME``
``exported``             TorchScript, ``torch.export``, ONNX, and servers
=======================  ===================================================================================
"""

from cfalign.classifiers.black_box import BlackBox, black_box
from cfalign.classifiers.by_spec import load, planted
from cfalign.classifiers.composed_classifier import ComposedClassifier
from cfalign.classifiers.joined import JoinedClassifier
from cfalign.classifiers.preprocessing import Preprocessing
from cfalign.classifiers.wrapped_classifier import WrappedClassifier, wrap

__all__ = [
    "BlackBox",
    "ComposedClassifier",
    "JoinedClassifier",
    "Preprocessing",
    "WrappedClassifier",
    "black_box",
    "load",
    "planted",
    "wrap",
]
