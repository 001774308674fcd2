"""Classifiers in TorchScript files (``.pt``, ``.ts``), or, when they are trusted, whole pickled modules (``.pt``,
``.pth``). Gradients flow through both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from cfalign._errors import BadInput
from cfalign._models.weights import checked_archive, read_object
from cfalign.classifiers.exported.exported_module import FileModule, as_classifier
from cfalign.classifiers.exported.torch_messages import quiet, reason
from cfalign.classifiers.wrapped_classifier import WrappedClassifier

SUFFIXES = (".pt", ".ts", ".pth")
GO_ON = (
    "name a factory that builds the network and loads them, path/to/file.py:factory, or export the model with "
    "torch.jit.save, torch.export.save or to ONNX"
)


def load(path: Path, *, trust: bool = False) -> WrappedClassifier:
    """The classifier in the file.

    ``trust``: whether a pickled module may be read, which may run any code.
    Raises BadInput when the file is not what its name says or the JSON beside it does not fit.
    """
    return as_classifier(FileModule(_module(path, trust=trust)), path)


def _module(path: Path, *, trust: bool) -> nn.Module:
    """TorchScript, or a pickled module when it is trusted."""
    if path.suffix == ".ts" or _is_archive(path):
        names = checked_archive(path)
        if any(name.endswith("/constants.pkl") for name in names):
            return _script(path)
        if any(name.endswith("/models/model.json") for name in names):
            raise BadInput(f"{path} was written by torch.export.save; give it the suffix .pt2.")
        if path.suffix == ".ts" or not any(name.endswith("/data.pkl") for name in names):
            raise BadInput(f"{path} is an archive, but no TorchScript: it holds {names[:1]}.")
    try:
        content = read_object(path, trust=trust)
    except BadInput as error:
        if "runs code" not in str(error):
            raise
        raise BadInput(
            f"{path} is no TorchScript but a pickle that runs code when it is read, and is refused: {GO_ON}; or, if "
            "you trust where it comes from, give --trust (trust=True)."
        ) from error
    if isinstance(content, nn.Module):
        return content
    if isinstance(content, Mapping):
        raise BadInput(f"{path} holds weights ({type(content).__name__}) without their network: {GO_ON}.")
    raise BadInput(f"{path} holds a {type(content).__name__}, no torch module: {GO_ON}.")


def _is_archive(path: Path) -> bool:
    try:
        with path.open("rb") as handle:
            return handle.read(2) == b"PK"
    except OSError:
        return False  # said by whatever reads it next


def _script(path: Path) -> nn.Module:
    try:
        with quiet():
            module: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except MemoryError:
        raise
    except Exception as error:  # C++ has many
        raise BadInput(f"{path} cannot be loaded as TorchScript: {reason(error)}.") from error
    if not hasattr(module, "forward"):
        raise BadInput(f"{path} is a TorchScript program without a forward method, so no classifier.")
    return module
