"""Classifiers in ONNX files, run by onnxruntime: black boxes, forward passes only."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfalign._errors import BadInput, BadModel
from cfalign._models.extras import imported
from cfalign._models.probe_images import probe_images
from cfalign.classifiers.black_box import BlackBox
from cfalign.classifiers.exported.description import Description, describe, target_names
from cfalign.classifiers.exported.exported_module import USUAL, file_digest, trial_outputs
from cfalign.classifiers.exported.input_shape import batched, channel_count, square_side
from cfalign.classifiers.exported.onnx_file import external_data, origin_in
from cfalign.classifiers.link import reading
from cfalign.classifiers.outputs import as_logits
from cfalign.classifiers.preprocessing import resized_and_normalised
from cfalign.classifiers.wrapped_classifier import prepared

SUFFIX = ".onnx"
TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
MISSING = re.compile(r"No Op registered for (\S+)|No opset import for domain '(\S*)'|NOT_IMPLEMENTED.*?(\w+)\(\d+\)")


class OnnxModel:
    """Images [n, c, h, w] in [0, 1] to probabilities [n, target]."""

    def __init__(self, path: Path) -> None:
        _check_there(path)
        imported("onnxruntime", extra="onnx")
        self.weights = external_data(path)
        """The files that belong to it."""
        self.path, self._session = path, _session(path)
        self._input = _only(self._session.get_inputs, "input", path)
        self._type = _number_type(self._input, "input", path)
        _number_type(_only(self._session.get_outputs, "output", path), "output", path)
        shape = [side if isinstance(side, int) and side > 0 else None for side in self._input.shape]
        if len(shape) != 4:
            raise BadInput(f"{path} takes an input of shape {self._input.shape}; expected images, four axes.")
        self._channels_last = shape[3] in (1, 3) and shape[1] not in (1, 3)
        self._batch, *rest = shape
        height, width, channels = rest if self._channels_last else (rest[1], rest[2], rest[0])
        self.description: Description = describe(
            path, size=square_side(height, width, path), channels=channel_count(channels, path)
        )
        """The JSON beside the file, completed from the file."""
        self._channels = self.description.channels or 3
        self._prepare = resized_and_normalised(self.description.size, self.description.normalize)

    def outputs(self, images: Tensor) -> Tensor:
        """Raw outputs [n, target] for images resized and normalised here."""
        x = prepared(images.float(), self._prepare, name=self.path.stem)
        if self._channels == 1 and x.shape[1] != 1:
            x = x.mean(dim=1, keepdim=True)
        x = x.permute(0, 2, 3, 1) if self._channels_last else x
        return batched(self._run, x, least=self._batch or 1, most=self._batch)

    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities."""
        out = self.outputs(images)
        if self.description.link == "probability":
            return out
        return torch.sigmoid(as_logits(out[:, None] if out.ndim == 1 else out, self.description.link))

    def _run(self, x: Tensor) -> Tensor:
        array = np.ascontiguousarray(x.cpu().numpy(), dtype=self._type)
        found = self._session.run(None, {self._input.name: array})[0]
        return torch.from_numpy(np.asarray(found).astype(np.float32))


def load(path: Path) -> BlackBox:
    """The classifier in the file. Raises BadInput when onnxruntime cannot run it, or inputs or outputs do not fit."""
    model = OnnxModel(path)
    description = model.description
    targets = target_names(trial_outputs(model.outputs, description, path), description, path)
    if description.link == "softmax" and len(targets) < 2:
        raise BadInput(f"{path} has one output; link softmax needs at least two, for one say sigmoid.")
    box = BlackBox(model, targets, name=path.stem, version=f"{file_digest(path, *model.weights)} {description!r}")
    _read_link(model, box)
    return box


def _read_link(model: OnnxModel, box: BlackBox) -> None:
    """Notice outputs that are no logits although a link says so, by the operation that makes them and by values."""
    side, channels = model.description.size or USUAL, model.description.channels or 3
    try:
        outputs = model.outputs(probe_images((channels, side, side)))
    except (BadModel, BadInput):
        return  # it may take nothing but real images
    outputs = outputs[:, None] if outputs.ndim == 1 else outputs
    found = reading(outputs, model.description.link, name=box.name, origin=origin_in(model.path))
    model.description = replace(model.description, link=found.link)
    box.note(found.note)


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise BadInput(f"There is no file {str(path)!r}; expected an ONNX model.")
    if not path.stat().st_size:
        raise BadInput(f"{path} is an empty file, expected an ONNX model: the copy or download may have failed.")


def _session(path: Path) -> Any:
    runtime = imported("onnxruntime", extra="onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised, and said once
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's errors have no common class
        text = " ".join(str(error).split())
        if found := MISSING.search(text):
            operator = next(group for group in found.groups() if group is not None)
            raise BadInput(
                f"{path} uses the operator {operator!r}, which this onnxruntime ({runtime.__version__}) does not have; "
                "export the model with standard operators of an older opset."
            ) from error
        told = re.sub(r"^\[ONNXRuntimeError\]( : \w+)+ : ", "", text)
        reason = told.rpartition("failed:")[2].strip().rstrip(".")[:200]
        raise BadInput(f"{path} cannot be loaded as ONNX: {reason}.") from error


def _only(asked: Callable[[], list[Any]], what: str, path: Path) -> Any:
    try:
        found = asked()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is damaged: the name of its {what} is no text; copy it again.") from error
    if len(found) != 1:
        names = ", ".join(one.name for one in found)
        raise BadInput(f"{path} has {len(found)} {what}s ({names}); expected one.")
    return found[0]


def _number_type(found: Any, what: str, path: Path) -> Any:
    if found.type not in TYPES:
        raise BadInput(f"{path} has an {what} of type {found.type}; expected floats, {', '.join(TYPES)}.")
    return TYPES[found.type]
