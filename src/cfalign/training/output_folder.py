"""The folder that a training writes to: its identity, its checkpoint, its result.

``training.json`` says what the folder belongs to, ``checkpoint.pt`` how far the training is, ``measurement.json`` that
it is finished and how good the weights beside it are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cfalign import __version__
from cfalign._errors import BadInput
from cfalign._models.weights import save_weights
from cfalign._runs.codec import as_json, write_json, written
from cfalign._runs.record import refuse_other
from cfalign.datasets import ImageSource
from cfalign.training.decoded_images import FILES, forget
from cfalign.training.options import Training

_LOG = logging.getLogger(__name__)
SCHEMA = 1
_RECORD = "training.json"
_MEASUREMENT = "measurement.json"


@dataclass(frozen=True)
class OutputFolder:
    """One training's folder."""

    path: Path
    identity: Mapping[str, Any]

    @property
    def checkpoint(self) -> Path:
        """The state to resume from; absent in the first half minute and after the end."""
        return self.path / "checkpoint.pt"

    @property
    def measurement(self) -> Path:
        """The quality of the network; present once the training is finished."""
        return self.path / _MEASUREMENT

    @property
    def weights(self) -> Path:
        """The trained network."""
        return self.path / f"{self.identity['kind']}.safetensors"

    def finished(self) -> dict[str, Any] | None:
        """The measurement of this training; None while it is not finished."""
        if not (self.measurement.is_file() and self.weights.is_file()):
            return None
        return _json(self.measurement)

    def begin(self) -> None:
        """Write the identity of the training. Raises StorageFailed when it cannot be written."""
        write_json(self.path / _RECORD, self.identity)

    def end(self, network: nn.Module, config: Mapping[str, Any], measurement: Mapping[str, Any]) -> None:
        """Write the weights, then the measurement, and remove the checkpoint and the decoded images."""
        described = {**config, "name": self.path.resolve().name, "cfalign": __version__}
        try:
            with written(self.weights) as temporary:
                save_weights(temporary, network, described)
        finally:
            for part in self.path.glob("..*.part"):  # of a disk that was full
                part.unlink(missing_ok=True)
        write_json(self.measurement, {**self.identity, "cfalign": __version__, **measurement})
        _LOG.info("The weights are written to %s, their measurement to %s.", self.weights, self.measurement)
        self.clean()

    def clean(self) -> None:
        """Remove the checkpoint and the decoded images."""
        self.checkpoint.unlink(missing_ok=True)
        forget(self.path)


def open_folder(
    out: str | Path, *, kind: str, options: Training, source: ImageSource, extra: Mapping[str, Any]
) -> OutputFolder:
    """The folder ``out``: new, empty, or of the same training.

    Nothing is written yet. Raises RunMismatch, which names the differences, when it belongs to another training, and
    BadInput when it holds something else.
    """
    data = {"images": len(source.ids), "hash": source.fingerprint()[:16], **extra}
    identity = as_json({"schema": SCHEMA, "kind": kind, "options": options.identity(), "data": data})
    path = Path(out).expanduser()
    if path.exists() and not path.is_dir():
        raise BadInput(f"The output folder {path} is a file; name a folder to be made, or one of a training to resume.")
    record = path / _RECORD
    if record.is_file():
        refuse_other(_json(record), identity, path)
    elif path.is_dir() and any(not p.name.startswith(".") and p.name not in FILES for p in path.iterdir()):
        raise BadInput(
            f"The output folder {path} holds files of something other than a training; give an empty or new folder."
        )
    return OutputFolder(path, identity)


def recorded_options(weights: Path) -> Mapping[str, Any]:
    """The options that a network was trained with, by its folder or file; empty where none is recorded beside it."""
    if not weights.exists():
        return {}
    record = (weights if weights.is_dir() else weights.parent) / _RECORD
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = content.get("options") if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all. Raises StorageFailed when the disk refuses."""
    with written(path) as temporary, temporary.open("wb") as handle:
        try:
            torch.save(dict(content), handle)
        except RuntimeError as error:  # torch hides the disk's own error behind one about its archive
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint; None where there is none. Raises BadInput when it is damaged."""
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch answers damaged archives with many types
        raise BadInput(f"The checkpoint {path} is damaged; remove it to start this training again.") from error
    return content


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}; remove its folder to start again.") from error
    return content
