"""Tiny models of every family of classifiers, randomly initialised, written where a spec finds them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cfalign.classifiers import WrappedClassifier, load

Make = Callable[[Path], str]
Pixels = np.ndarray[Any, Any]


def quiet(package: str) -> Any:
    """The package, without the warnings of its own import; skips the test where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(package, reason=f"needs the extra that brings {package}")


def pixels(height: int, width: int, *, low: int = 0, high: int = 256, channels: int = 3) -> Pixels:
    """An 8-bit image [height, width, channel] of noise."""
    return np.random.default_rng(0).integers(low, high, (height, width, channels), dtype=np.uint8)


def as_images(*drawn: Pixels) -> Tensor:
    """The same as images [n, channel, height, width] in [0, 1]."""
    return torch.stack([torch.from_numpy(d).permute(2, 0, 1).float() / 255 for d in drawn])


def loaded(spec: str, *, trust: bool = False) -> WrappedClassifier:
    """The classifier, which is a wrapped module."""
    classifier = load(spec, trust=trust)
    assert isinstance(classifier, WrappedClassifier)
    return classifier


def torchvision_file(folder: Path) -> str:
    """A checkpoint of a trainer, with names of its classes."""
    models = quiet("torchvision").models
    torch.manual_seed(0)
    state = {f"module.{k}": v for k, v in models.resnet18(num_classes=3).state_dict().items()}
    path = folder / "faces.pth"
    torch.save({"state_dict": state, "classes": ["Big Nose", "Young", "Hat"]}, path)
    return f"torchvision:resnet18:{path}"


def timm_file(folder: Path) -> str:
    """A bare state dict."""
    timm = quiet("timm")
    torch.manual_seed(0)
    path = folder / "faces.pth"
    torch.save(timm.create_model("resnet10t", pretrained=False, num_classes=3).state_dict(), path)
    return f"timm:resnet10t:{path}"


def timm_folder(folder: Path) -> str:
    """A folder as timm saves it."""
    timm = quiet("timm")
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", pretrained=False, num_classes=3)
    timm.models.save_for_hf(network, folder, model_config={"label_names": ["Big Nose", "Young", "Hat"]})
    return f"timm:local-dir:{folder}"


def tiny_vit(folder: Path, *, processor: Any = None, **more: Any) -> str:
    """A folder of transformers with its image processor."""
    quiet("torchvision")
    transformers = quiet("transformers")
    torch.manual_seed(0)
    labels = {0: "Tabby Cat", 1: "tabby cat", 2: "dog"}
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=32,
        patch_size=8,
        id2label=labels,
        label2id={v: k for k, v in labels.items()},
        **more,
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    (processor or transformers.ViTImageProcessor(size={"height": 32, "width": 32})).save_pretrained(folder)
    return f"hf:{folder}"


def xrv_network(**more: Any) -> Any:
    """A small DenseNet of torchxrayvision."""
    models = quiet("torchxrayvision.models")
    torch.manual_seed(0)
    return models.DenseNet(growth_rate=4, block_config=(1, 2), num_init_features=8, bn_size=2, **more).eval()


def xrv_file(folder: Path) -> str:
    """Its state dict."""
    path = folder / "chest.pt"
    torch.save(xrv_network().state_dict(), path)
    return f"xrv:{path}"


FAMILIES: list[Make] = [torchvision_file, timm_file, timm_folder, tiny_vit, xrv_file]
