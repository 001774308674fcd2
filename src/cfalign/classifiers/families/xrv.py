"""Family ``xrv``: DenseNets of torchxrayvision for chest X-rays, ``xrv:densenet121-res224-all`` or ``xrv:FILE``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cfalign._errors import BadInput, nearest
from cfalign._models.extras import imported
from cfalign._models.weights import load_into
from cfalign.classifiers.families.checkpoint import file_of, read
from cfalign.classifiers.families.class_names import class_targets, names_of
from cfalign.classifiers.families.foreign_library import library_call
from cfalign.classifiers.preprocessing import Preprocessing
from cfalign.classifiers.wrapped_classifier import WrappedClassifier, wrap

SIZE = 224  # of all its DenseNets
LAYER = re.compile(r"features\.denseblock(\d+)\.denselayer(\d+)\.conv2\.weight")
FIRST = "features.denseblock1.denselayer1"
SHAPED = ("features.conv0.weight", f"{FIRST}.conv1.weight", f"{FIRST}.conv2.weight", "classifier.weight")
"""The tensors whose lengths say how wide a DenseNet is: the first layer, two of its first block, the classifier."""


class Pathologies(nn.Module):
    """Grey images [n, 1, 224, 224] in [−1024, 1024] → logits of the probabilities that the library documents.

    With ``thresholds`` t those are p / 2t below t and 1 − (1 − p) / 2(1 − t) above, so that 0.5 is the operating point;
    without, the network's own p.
    """

    columns: Tensor
    thresholds: Tensor | None

    def __init__(self, network: nn.Module, columns: Sequence[int], thresholds: Tensor | None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("columns", torch.tensor(columns))
        self.register_buffer("thresholds", None if thresholds is None else thresholds[list(columns)])

    def forward(self, images: Tensor) -> Tensor:
        """[n, target]."""
        network: Any = self.network
        features = functional.relu(network.features(images))
        logits: Tensor = network.classifier(functional.adaptive_avg_pool2d(features, 1).flatten(1))[:, self.columns]
        return logits if self.thresholds is None else calibrated(logits, self.thresholds)


def calibrated(logits: Tensor, thresholds: Tensor) -> Tensor:
    """The logit of a probability moved so that its threshold becomes 0.5, without leaving log space."""
    p, t = torch.sigmoid(logits), thresholds
    below = functional.logsigmoid(logits) - torch.log((2 * t - p).clamp(min=t))
    above = torch.log((p + 1 - 2 * t).clamp(min=1 - t)) - functional.logsigmoid(-logits)
    return torch.where(p < t, below, above)


def load(name: str, *, trust: bool = False) -> WrappedClassifier:
    """A DenseNet of torchxrayvision, its heads that were trained, on the mean of the colours at 224 px.

    Images are cut to a square and resized as the library does it. Its published weights are pickles, which need
    ``trust``. A file holds the state of a DenseNet; it brings its own number of classes, and their names when it holds
    them (``targets``), else those of the library where they are as many.

    Raises BadInput when something is missing or does not fit.
    """
    with warnings.catch_warnings():  # it switches off all warnings of the process
        models = imported("torchxrayvision.models", extra="xrv")
    known = {k: v for k, v in models.model_urls.items() if "densenet" in v["weights_url"]}
    if name in known:
        return _published(models, name, known[name], trust=trust)
    if not file_of(name).is_file():
        raise BadInput(f"torchxrayvision has no DenseNet {name!r}, and there is no such file; {nearest(name, known)}.")
    checkpoint = read(name, trust=trust)
    state = checkpoint.state_of(SHAPED)
    thresholds = state.pop("op_threshs", None)
    network = _network(models, state, checkpoint.path)
    load_into(network, state, checkpoint.path)
    count = len(state["classifier.weight"])
    targets = names_of(count, checkpoint.path, own=checkpoint.names, published=models.DenseNet.targets)
    classifier = _wrapped(network, targets, thresholds, name=checkpoint.path.stem)
    classifier.note(*checkpoint.remarks)
    return classifier


def _published(models: Any, name: str, facts: Mapping[str, Any], *, trust: bool) -> WrappedClassifier:
    if not trust:
        raise BadInput(
            f"The published weights xrv:{name} are a pickle, which runs code when it is read, and are refused; if you "
            "trust torchxrayvision's release, give --trust (trust=True)."
        )
    folder = "~/.torchxrayvision/models_data"
    with library_call(f"The weights xrv:{name}", instead=f"put {facts['weights_url']} into {folder}"):
        network = models.DenseNet(weights=name)
    thresholds, network.op_threshs = network.op_threshs, None
    network.weights_filename_local = ""  # where it lies decides no answer
    return _wrapped(network, network.targets, thresholds, name=name)


def _wrapped(network: Any, labels: Sequence[str], thresholds: Tensor | None, *, name: str) -> WrappedClassifier:
    trained = [i for i, label in enumerate(labels) if label and (thresholds is None or thresholds[i].isfinite())]
    targets = class_targets([labels[i] for i in trained])
    prepare = Preprocessing(grey=True, square=True, resize=(SIZE, SIZE), mean=(0.5,), std=(1 / 2048,))
    module = Pathologies(network, trained, thresholds)
    module.eval().requires_grad_(False)
    return wrap(module, targets, link="sigmoid", prepare=prepare, name=name)


def _network(models: Any, state: Mapping[str, Tensor], file: Path) -> nn.Module:
    """A DenseNet of the widths and depths that the tensors have."""
    found = [m.groups() for m in map(LAYER.fullmatch, state) if m]
    blocks = sorted({int(block) for block, _ in found})
    start, narrow, growth, classes = (len(state[name]) for name in SHAPED)
    if state[SHAPED[0]].shape[1] != 1:
        raise BadInput(f"{file} takes colour images; expected a DenseNet of torchxrayvision for grey ones.")
    network: nn.Module = models.DenseNet(
        growth_rate=growth,
        block_config=tuple(sum(int(b) == block for b, _ in found) for block in blocks),
        num_init_features=start,
        bn_size=narrow // growth,
        num_classes=classes,
    )
    return network
