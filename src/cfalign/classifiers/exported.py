"""Classifiers that are files: TorchScript (``.pt``, ``.ts``), ``torch.export`` (``.pt2``), and, with ``--trust``, a
whole pickled module (``.pt``, ``.pth``). Gradients flow through all of them. ONNX files are in ``onnx_file``.

What the file cannot say stands in a JSON beside it, see ``beside``.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfalign._errors import BadInput, BadModel
from cfalign._models.guard import described, device_of
from cfalign._models.weights import checked_archive, read_object
from cfalign.classifiers.batches import batched
from cfalign.classifiers.beside import Beside, beside, read_beside
from cfalign.classifiers.vetting import copied, vet
from cfalign.classifiers.wrapped import WrappedClassifier, wrap

SUFFIXES = (".pt", ".ts", ".pth", ".pt2")
USUAL = 224  # side of the trial images where nothing says another
GO_ON = (
    "name a factory that builds the network and loads them, path/to/file.py:factory, or export the model with "
    "torch.jit.save, torch.export.save or to ONNX"
)


@dataclass(frozen=True)
class Read:
    """A module from a file, and what the file says of its input."""

    module: nn.Module
    size: int | None = None
    channels: int | None = None
    least: int = 1
    most: int | None = None


class Framed(nn.Module):
    """The module between images of three channels and batches of any size, and what it takes."""

    def __init__(self, read: Read, *, channels: int) -> None:
        super().__init__()
        self.inner, self.channels, self.least, self.most = read.module, channels, read.least, read.most

    def forward(self, images: Tensor) -> Tensor:
        """The mean over the channels for a model of one; batches filled up or cut where the file has them fixed."""
        if self.channels == 1 and images.shape[1] != 1:
            images = images.mean(dim=1, keepdim=True)
        return batched(self.inner, images, least=self.least, most=self.most)


def load(path: Path, *, trust: bool = False) -> WrappedClassifier:
    """The classifier in the file; BadInput when it is not what its name says or the JSON beside it does not fit.

    ``trust``: whether a pickled module, or an exported program that is not of the plain form, may be read, which may
    run any code.
    """
    read = _read_program(path, trust=trust) if path.suffix == ".pt2" else _read_archive(path, trust=trust)
    return framed(read, said(path, size=read.size, channels=read.channels), path)


def said(path: Path, *, size: int | None, channels: int | None) -> Beside:
    """The JSON beside it, ``size`` and ``channels`` from the file where it is silent; BadInput where they differ."""
    place = beside(path)
    content = read_beside(place)
    for name, own in (("size", size), ("channels", channels)):
        stated = getattr(content, name)
        if own is not None and stated not in (None, own):
            raise BadInput(f"{place} says {name} {stated}, but the input of {path.name} has {own}.")
    return Beside(content.link, content.targets, content.normalize, content.size or size, content.channels or channels)


def framed(read: Read, told: Beside, path: Path) -> WrappedClassifier:
    """The classifier, its targets counted by a trial run."""
    module = Framed(read, channels=told.channels or 3)
    for part in module.modules():
        part.training = False  # eval() itself is refused by exported programs
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    targets = named(trial(module, told, path, device=device_of(read.module)), told, path)
    made = wrap(module, targets, link=told.link, normalize=told.normalize, size=told.size, name=path.stem)
    made.digest = file_digest(path)
    return made


def trial(run: Any, told: Beside, path: Path, *, device: torch.device | str = "cpu") -> int:
    """How many outputs the model has for two grey images; BadInput when it cannot take them."""
    side = told.size or USUAL
    images = torch.full((2, 3, side, side), 0.5, device=device)
    try:
        with torch.no_grad():
            out = run(images)
    except MemoryError:
        raise
    except BadModel as error:
        raise BadInput(f"{path} does not work: {str(error).rstrip('.')}.") from error
    except Exception as error:
        shape = [2, told.channels or 3, side, side]
        hint = "" if told.size else "; say its size in the JSON beside it"
        raise BadInput(f"{path} does not take images of shape {shape}: {_why(error)}{hint}.") from error
    if isinstance(out, Tensor) and out.ndim in (1, 2) and len(out) == 2 and out.is_floating_point():
        return out.shape[1] if out.ndim == 2 else 1
    came = f"{out.dtype} of shape {list(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    raise BadInput(f"{path} gives {came} for 2 images; expected floats of shape [2, target].")


def named(outputs: int, told: Beside, path: Path) -> tuple[str, ...]:
    """One target per output: those of the JSON, or class_0, class_1, …"""
    if told.targets is None:
        return tuple(f"class_{i}" for i in range(outputs))
    if len(told.targets) != outputs:
        raise BadInput(f"{path} has {outputs} outputs, but {beside(path).name} names {len(told.targets)} targets.")
    return told.targets


def file_digest(path: Path) -> str:
    """SHA-256 (16 hex digits) of the file, and of the weights that large ONNX models keep in a ``.data`` beside it."""
    digest = sha256()
    for file in (path, path.with_name(f"{path.name}.data")):
        if file.is_file():
            with file.open("rb") as handle:
                while chunk := handle.read(2**20):
                    digest.update(chunk)
    return digest.hexdigest()[:16]


def _read_archive(path: Path, *, trust: bool) -> Read:
    """TorchScript, or a pickled module when it is trusted."""
    if path.suffix == ".ts" or _is_archive(path):
        names = checked_archive(path)
        if any(name.endswith("/constants.pkl") for name in names):
            return Read(_script(path))
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
        return Read(content)
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
        with _quiet():
            module: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except MemoryError:
        raise
    except Exception as error:  # C++ has many
        raise BadInput(f"{path} cannot be loaded as TorchScript: {_why(error)}.") from error
    if not hasattr(module, "forward"):
        raise BadInput(f"{path} is a TorchScript program without a forward method, so no classifier.")
    return module


def _read_program(path: Path, *, trust: bool) -> Read:
    checked_archive(path)
    found = vet(path)
    if found is not None and not trust:
        raise BadInput(
            f"{path} may run code when it is loaded ({found}) and is refused; export it as TorchScript or ONNX, or, if "
            "you trust where it comes from, give --trust (trust=True)."
        )
    try:
        with _quiet():
            program = torch.export.load(path if found is not None else copied(path))
            return _of_program(program, path)
    except (MemoryError, BadInput):
        raise
    except Exception as error:
        raise BadInput(f"{path} cannot be loaded as an exported program: {_why(error)}.") from error


def _of_program(program: Any, path: Path) -> Read:
    inputs = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in program.graph_signature.user_inputs]
    shapes = [getattr(n.meta.get("val"), "shape", None) for n in inputs]
    if len(shapes) != 1 or shapes[0] is None or len(shapes[0]) != 4:
        came = ", ".join("a value" if s is None else str(list(s)) for s in shapes) or "none"
        raise BadInput(f"{path} takes the inputs {came}; expected one, images [n, channel, height, width].")
    batch, channels, height, width = (side if isinstance(side, int) else None for side in shapes[0])
    size = square(height, width, path)
    least, most = (batch or 1), batch
    symbol = getattr(getattr(shapes[0][0], "node", None), "expr", None)
    bounds = program.range_constraints.get(symbol) if batch is None else None
    if bounds is not None:
        least = max(int(bounds.lower), 1)
        most = int(bounds.upper) if bounds.upper.is_Integer and int(bounds.upper) < 2**31 else None
    return Read(program.module(), size, channels_of(channels, path), least, most)


def square(height: int | None, width: int | None, path: Path) -> int | None:
    """The side that an input of fixed size has; BadInput where it is no square."""
    if height is not None and width is not None and height != width:
        raise BadInput(f"{path} takes images of {height}×{width}; expected a square, or sizes left open at export.")
    return height if height is not None else width


def channels_of(channels: int | None, path: Path) -> int | None:
    """1 or 3; BadInput for another fixed number."""
    if channels not in (None, 1, 3):
        raise BadInput(f"{path} takes images of {channels} channels; expected 1 or 3.")
    return channels


def _why(error: Exception) -> str:
    """What is wrong, out of the many lines of a C++ or TorchScript message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error: " in line]
    if "Traceback of TorchScript" in str(error) and telling:
        return telling[-1].rstrip(".")[:300]
    return (
        f"{type(error).__name__}: {lines[0].partition('. This is an internal')[0].rstrip('.')[:300]}"
        if lines
        else described(error)
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings and log lines of its own deprecations; what fails is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
