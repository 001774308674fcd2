"""Family ``torchvision``: ``torchvision:NAME``, ``torchvision:NAME:WEIGHTS`` or ``torchvision:NAME:FILE``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cfalign._errors import BadInput, nearest
from cfalign._models.extras import imported
from cfalign._models.weights import load_into
from cfalign.classifiers.families.checkpoint import file_of, read
from cfalign.classifiers.families.class_names import class_targets, names_of
from cfalign.classifiers.families.foreign_library import library_call
from cfalign.classifiers.preprocessing import Preprocessing
from cfalign.classifiers.wrapped_classifier import WrappedClassifier, wrap

BRANCHED: Mapping[str, tuple[str, ...]] = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
"""Networks with branches that only a training needs; the branches play no part in evaluation and are left out."""


def load(name: str, *, trust: bool = False) -> WrappedClassifier:
    """A classification model of torchvision with the preprocessing of its weights (``weights.transforms()``).

    A file brings its own number of classes, and their names when it holds them (``classes``); it gets the
    preprocessing of the model's default weights, and a softmax over its outputs, or a sigmoid when there is one.
    Nothing is downloaded for it. Raises BadInput when something is missing or does not fit.
    """
    models = imported("torchvision.models", extra="torchvision")
    model, _, rest = name.partition(":")
    known = models.list_models(module=models)
    if model not in known:
        raise BadInput(f"torchvision has no classification model {model!r}; {nearest(model, known)}.")
    choices = models.get_model_weights(model)
    if rest and rest not in choices.__members__:
        return _from_file(models, model, choices, rest, trust=trust)
    weights = choices[rest or "DEFAULT"]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    with library_call(
        f"The weights {weights} of torchvision",
        instead=f"put {weights.url} into {folder}, or give a file of your own as torchvision:{model}:FILE",
    ):
        network = models.get_model(model, weights=weights)
    network.eval().requires_grad_(False)
    targets = class_targets(weights.meta["categories"])
    return wrap(network, targets, link="softmax", prepare=preprocessing(weights.transforms()), name=model)


def _from_file(models: Any, model: str, choices: Any, file: str, *, trust: bool) -> WrappedClassifier:
    if not file_of(file).is_file():
        raise BadInput(
            f"{model} has no weights {file!r}, and there is no such file; expected {', '.join(choices.__members__)} or "
            "a checkpoint."
        )
    checkpoint = read(file, trust=trust)
    more = {"init_weights": False, "aux_logits": False} if model in BRANCHED else {}
    names = _names_in(models, model, more)
    state = checkpoint.state_of(names)
    count = len(state[names[-1]])  # the last layer is the classifier in all of torchvision
    network = models.get_model(model, weights=None, num_classes=count, **more)
    load_into(network, {k: v for k, v in state.items() if not k.startswith(BRANCHED.get(model, ()))}, checkpoint.path)
    categories = choices["DEFAULT"].meta["categories"]
    classifier = wrap(
        network,
        names_of(count, checkpoint.path, own=checkpoint.names, published=categories),
        link="softmax" if count > 1 else "sigmoid",
        prepare=preprocessing(choices["DEFAULT"].transforms()),
        name=checkpoint.path.stem,
    )
    classifier.note(*checkpoint.remarks)
    return classifier


def _names_in(models: Any, model: str, more: Mapping[str, Any]) -> list[str]:
    """The names of the network's tensors, in its order."""
    try:
        with torch.device("meta"):  # sizes only
            network = models.get_model(model, weights=None, **more)
    except NotImplementedError:  # RegNet computes its widths with tensors
        network = models.get_model(model, weights=None, **more)
    return list(network.state_dict())


def preprocessing(preset: Any) -> Preprocessing:
    """The same steps as a preset of torchvision for classification, on float images.

    As there, a bicubic filter may go beyond [0, 1]; with 8-bit images torchvision clips it.
    """
    return Preprocessing(
        channels=len(preset.mean),
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        antialias=bool(preset.antialias),
        crop=(preset.crop_size[0], preset.crop_size[0]),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
