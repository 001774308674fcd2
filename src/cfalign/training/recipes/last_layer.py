"""Deep feature reweighting: everything of a trained classifier but its last layer stays (Kirichenko et al. 2022)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from scipy.optimize import minimize
from torch import Tensor, nn

from cfalign._models.fingerprint import fingerprint
from cfalign._models.weights import load_into, read_weights
from cfalign._results import Floats
from cfalign.classifiers.attribute_network import AttributeNetwork, build
from cfalign.datasets import TensorImages
from cfalign.training.options import ClassifierTraining
from cfalign.training.output_folder import open_folder


def retrained(
    weights: Path, images: TensorImages, labels: Bool[Tensor, " image"], *, out: Path, options: ClassifierTraining
) -> Path:
    """A copy of a classifier of one head with its last layer learnt anew on these images; the path of its weights.

    ``out``: its folder, as of ``train_classifier``; found done, nothing is repeated. ``options``: how the classifier
    was trained, a part of the folder's identity.
    """
    state, config = read_weights(weights, kind="classifier")
    network = build(config)
    load_into(network, state, weights)
    data = {"last_layer_of": fingerprint(network), "positives": int(labels.sum())}
    folder = open_folder(out, kind="classifier", options=options, source=images, extra=data)
    if folder.finished() is not None:
        return folder.weights
    folder.begin()
    read, layer = features(network, images), _last(network)
    coefficients, constant = logistic(read.double().numpy(), labels.numpy())
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(coefficients)[None])
        layer.bias.fill_(constant)
        right = (layer(read)[:, 0] > 0) == labels
    folder.end(network, network.config, {"images": {"train": len(labels)}, "accuracy": float(right.float().mean())})
    return folder.weights


@torch.no_grad()
def features(network: AttributeNetwork, images: TensorImages) -> Tensor:
    """What the last layer reads, [image, feature]."""
    parts = images.load(range(len(images.ids))).images.split(256)
    return torch.cat([network.head[:-1](network.features(part * 2 - 1)) for part in parts])


def _last(network: AttributeNetwork) -> nn.Linear:
    layer = network.head[-1]
    assert isinstance(layer, nn.Linear)
    return layer


def logistic(features: Floats, labels: Floats | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[Floats, float]:
    """Coefficients and constant of a logistic regression on [image, feature], to its optimum.

    It minimises Σ loss + ½ ‖w‖² over standardised features; a feature that never varies gets 0.
    """
    centre, spread = features.mean(0), features.std(0)
    varies = spread > 1e-12
    x = np.where(varies, (features - centre) / np.where(varies, spread, 1.0), 0.0)
    sign = np.where(labels, 1.0, -1.0)

    def loss(w: Floats) -> tuple[float, Floats]:
        margin = sign * (x @ w[:-1] + w[-1])
        slope = -sign / (1 + np.exp(np.clip(margin, -500, 500)))
        value = np.logaddexp(0, -margin).sum() + 0.5 * (w[:-1] ** 2).sum()
        return float(value), np.append(x.T @ slope + w[:-1], slope.sum())

    found = minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 2000})
    coefficients = np.where(varies, found.x[:-1] / np.where(varies, spread, 1.0), 0.0)
    return coefficients, float(found.x[-1] - coefficients @ centre)
