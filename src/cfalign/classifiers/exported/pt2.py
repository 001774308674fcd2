"""Classifiers in files of ``torch.export`` (``.pt2``). Gradients flow through them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cfalign._errors import BadInput
from cfalign._models.weights import checked_archive
from cfalign.classifiers.exported.exported_module import FileModule, as_classifier
from cfalign.classifiers.exported.input_shape import channel_count, square_side
from cfalign.classifiers.exported.torch_messages import quiet, reason
from cfalign.classifiers.exported.vetting import copied, vet
from cfalign.classifiers.wrapped_classifier import WrappedClassifier

SUFFIX = ".pt2"


def load(path: Path, *, trust: bool = False) -> WrappedClassifier:
    """The classifier in the file.

    ``trust``: whether a program that is not of the plain form (see ``vetting``) may be read, which may run any code.
    Raises BadInput when the file is not what its name says or the JSON beside it does not fit.
    """
    return as_classifier(_read(path, trust=trust), path)


def _read(path: Path, *, trust: bool) -> FileModule:
    checked_archive(path)
    found = vet(path)
    if found is not None and not trust:
        raise BadInput(
            f"{path} may run code when it is loaded ({found}) and is refused; export it as TorchScript or ONNX, or, if "
            "you trust where it comes from, give --trust (trust=True)."
        )
    try:
        with quiet():
            program = torch.export.load(path if found is not None else copied(path))
            return _of_program(program, path)
    except (MemoryError, BadInput):
        raise
    except Exception as error:
        raise BadInput(f"{path} cannot be loaded as an exported program: {reason(error)}.") from error


def _of_program(program: Any, path: Path) -> FileModule:
    inputs = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in program.graph_signature.user_inputs]
    shapes = [getattr(n.meta.get("val"), "shape", None) for n in inputs]
    if len(shapes) != 1 or shapes[0] is None or len(shapes[0]) != 4:
        came = ", ".join("a value" if s is None else str(list(s)) for s in shapes) or "none"
        raise BadInput(f"{path} takes the inputs {came}; expected one, images [n, channel, height, width].")
    batch, channels, height, width = (side if isinstance(side, int) else None for side in shapes[0])
    size = square_side(height, width, path)
    least, most = (batch or 1), batch
    symbol = getattr(getattr(shapes[0][0], "node", None), "expr", None)
    bounds = program.range_constraints.get(symbol) if batch is None else None
    if bounds is not None:
        least = max(int(bounds.lower), 1)
        most = int(bounds.upper) if bounds.upper.is_Integer and int(bounds.upper) < 2**31 else None
    return FileModule(program.module(), size, channel_count(channels, path), least, most)
