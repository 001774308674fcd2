"""Family ``timm``: ``timm:NAME`` (its published weights), ``timm:NAME:FILE``, or timm's own ``timm:hf-hub:NAME`` and
``timm:local-dir:FOLDER``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from cfalign._errors import BadInput, nearest
from cfalign._models.extras import imported
from cfalign._models.weights import load_into
from cfalign.classifiers.families.checkpoint import read, refuse_code
from cfalign.classifiers.families.class_names import class_targets, names_of
from cfalign.classifiers.families.foreign_library import library_call
from cfalign.classifiers.preprocessing import Preprocessing
from cfalign.classifiers.wrapped_classifier import WrappedClassifier, wrap

ELSEWHERE = ("hf-hub", "local-dir")  # timm's own prefixes of a name


def load(name: str, *, trust: bool = False) -> WrappedClassifier:
    """A classifier of timm with the evaluation transform of its configuration (``timm.data.create_transform``).

    A file brings its own number of classes, and their names when it holds them (``classes``); it gets the
    preprocessing of the model's default configuration, and a softmax over its outputs, or a sigmoid when there is one.
    Nothing is downloaded for it. Raises BadInput when something is missing or does not fit.
    """
    timm = imported("timm", extra="timm")
    source, _, rest = name.partition(":")
    if source in ELSEWHERE:
        if source == "local-dir":
            _check_folder(Path(rest).expanduser(), trust=trust)
        return _published(timm, name, name=Path(rest).name)
    if not timm.is_model(source):
        raise BadInput(f"timm has no model {source!r}; {nearest(source, timm.list_models())}.")
    return _from_file(timm, source, rest, trust=trust) if rest else _published(timm, source, name=source)


def _check_folder(folder: Path, *, trust: bool) -> None:
    if not (folder / "config.json").is_file():
        raise BadInput(f"There is no {folder / 'config.json'}; expected timm:local-dir:FOLDER as timm saves it.")
    if not trust:
        refuse_code(folder)


def _published(timm: Any, model: str, *, name: str) -> WrappedClassifier:
    with library_call(f"The weights of timm:{model}", instead="give a file of your own as timm:NAME:FILE"):
        network = timm.create_model(model, pretrained=True)
    network.eval().requires_grad_(False)
    count = int(network.num_classes)
    if count < 1:
        raise BadInput(f"timm:{model} is published without a classifier (num_classes = 0); pick one with classes.")
    labels = _labels(timm, network)
    if labels is not None and len(labels) != count:
        raise BadInput(f"timm:{model} names {len(labels)} classes, but has {count} outputs; expected a name for each.")
    targets = class_targets(labels or [f"class_{i}" for i in range(count)])
    return _wrapped(timm, network, targets, name)


def _from_file(timm: Any, model: str, file: str, *, trust: bool) -> WrappedClassifier:
    checkpoint = read(file, trust=trust)
    configuration = timm.models.get_pretrained_cfg(model)
    head = getattr(configuration, "classifier", None)
    if not head:
        raise BadInput(f"timm does not say which layer of {model!r} is its classifier; name a factory instead.")
    last = head if isinstance(head, str) else head[0]  # distilled ones have two
    state = checkpoint.state_of(list(timm.create_model(model, pretrained=False).state_dict()))
    count = len(state[f"{last}.weight"])
    network = timm.create_model(model, pretrained=False, num_classes=count)
    load_into(network, state, checkpoint.path)
    targets = names_of(count, checkpoint.path, own=checkpoint.names, published=_labels(timm, network))
    classifier = _wrapped(timm, network, targets, checkpoint.path.stem)
    classifier.note(*checkpoint.remarks)
    return classifier


def _wrapped(timm: Any, network: Any, targets: Sequence[str], name: str) -> WrappedClassifier:
    prepare = preprocessing(timm.data.resolve_model_data_config(network))
    network.pretrained_cfg = network.default_cfg = None  # where it came from decides no answer
    return wrap(network, targets, link="softmax" if len(targets) > 1 else "sigmoid", prepare=prepare, name=name)


def _labels(timm: Any, network: nn.Module) -> list[str] | None:
    """Names of the classes: those of the configuration, else those of the ImageNet subset that timm infers."""
    configuration: Mapping[str, Any] = getattr(network, "pretrained_cfg", None) or {}
    names = configuration.get("label_names")
    if names:
        told = configuration.get("label_descriptions") or {}
        return [str(told.get(n, n)) for n in (names.values() if isinstance(names, Mapping) else names)]
    subset = timm.data.infer_imagenet_subset(network)
    if subset is None:
        return None
    return [d.partition(",")[0] for d in timm.data.ImageNetInfo(subset).label_descriptions()]  # the first synonym


def preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """The steps of timm's evaluation transform. Raises BadInput for those that size and crop do not describe."""
    channels, height, width = config["input_size"]
    scaled = tuple(math.floor(side / config["crop_pct"]) for side in (height, width))
    squash = config["crop_mode"] == "squash"
    if config["crop_mode"] not in ("center", "squash") or not (squash or height == width):
        raise BadInput(
            f"This model's images are prepared in timm's mode {config['crop_mode']!r} at {height}×{width}, which "
            "cfalign does not have; name a factory that wraps it with its own `prepare`."
        )
    if config["interpolation"] not in ("nearest", "bilinear", "bicubic"):
        raise BadInput(f"This model's images are resized by {config['interpolation']!r}; expected bilinear or bicubic.")
    return Preprocessing(
        channels=channels,
        resize=(scaled[0], scaled[1]) if squash else scaled[0],
        interpolation=config["interpolation"],
        clip=config["interpolation"] == "bicubic",
        crop=(height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
