"""A module from a file, with the description beside it, as a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfalign._errors import BadInput, BadModel
from cfalign._models.guard import device_of
from cfalign.classifiers.exported.description import Description, describe, target_names
from cfalign.classifiers.exported.input_shape import batched
from cfalign.classifiers.exported.torch_messages import reason
from cfalign.classifiers.wrapped_classifier import WrappedClassifier, wrap

USUAL = 224  # side of the trial images where nothing says another


@dataclass(frozen=True)
class FileModule:
    """A module from a file, and its input as the file describes it."""

    module: nn.Module
    size: int | None = None
    channels: int | None = None
    least: int = 1
    """The smallest batch that it takes."""
    most: int | None = None
    """The largest batch; None: any."""


class ExportedModule(nn.Module):
    """A file's module for images of three channels in batches of any size.

    A module of one channel gets the mean over the channels. A module of fixed batch sizes gets batches that are filled
    up or split.
    """

    def __init__(self, read: FileModule, *, channels: int) -> None:
        super().__init__()
        self.inner, self.channels, self.least, self.most = read.module, channels, read.least, read.most

    def forward(self, images: Tensor) -> Tensor:
        """Outputs [n, target]."""
        if self.channels == 1 and images.shape[1] != 1:
            images = images.mean(dim=1, keepdim=True)
        return batched(self.inner, images, least=self.least, most=self.most)


def as_classifier(read: FileModule, file: Path) -> WrappedClassifier:
    """The classifier, whose targets a trial run counts. Raises BadInput where file and description differ."""
    description = describe(file, size=read.size, channels=read.channels)
    module = ExportedModule(read, channels=description.channels or 3)
    for part in module.modules():
        part.training = False  # exported programs refuse eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    outputs = trial_outputs(module, description, file, device=device_of(read.module))
    return wrap(
        module,
        target_names(outputs, description, file),
        link=description.link,
        normalize=description.normalize,
        size=description.size,
        name=file.stem,
        version=f"{file_digest(file)} {description!r}",
    )


def trial_outputs(run: Any, description: Description, file: Path, *, device: torch.device | str = "cpu") -> int:
    """The number of outputs, from a run on two grey images. Raises BadInput when the model cannot take them."""
    side = description.size or USUAL
    images = torch.full((2, 3, side, side), 0.5, device=device)
    try:
        with torch.no_grad():
            out = run(images)
    except MemoryError:
        raise
    except BadModel as error:
        raise BadInput(f"{file} does not work: {str(error).rstrip('.')}.") from error
    except Exception as error:
        shape = [2, description.channels or 3, side, side]
        hint = "" if description.size else "; say its size in the JSON beside it"
        raise BadInput(f"{file} does not take images of shape {shape}: {reason(error)}{hint}.") from error
    if isinstance(out, Tensor) and out.ndim in (1, 2) and len(out) == 2 and out.is_floating_point():
        return out.shape[1] if out.ndim == 2 else 1
    came = f"{out.dtype} of shape {list(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    raise BadInput(f"{file} gives {came} for 2 images; expected floats of shape [2, target].")


def file_digest(file: Path, *parts: Path) -> str:
    """SHA-256 (16 hex digits) of the file, and of others that belong to it."""
    digest = sha256()
    for part in (file, *parts):
        with part.open("rb") as handle:
            while chunk := handle.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()[:16]
