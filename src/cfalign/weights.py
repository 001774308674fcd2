"""Weights on disk: one safetensors file whose metadata say how to build the network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from cfalign.errors import BadInput

KEY = "cfalign"
Network = TypeVar("Network", bound=nn.Module)


def save_weights(path: Path, module: nn.Module, config: Mapping[str, Any], *, half: bool = False) -> None:
    """Write the module's state and its ``config``; ``half`` stores floating tensors in 16 bits."""
    state = {k: _stored(v, half) for k, v in module.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    save_file(state, temporary, metadata={KEY: json.dumps(config)})
    temporary.chmod(0o644)  # safetensors writes for the owner only
    temporary.replace(path)


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if half and tensor.is_floating_point() else tensor


def read_weights(path: str | Path, *, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State (floating tensors as float32) and config of a file that holds a ``kind`` (``autoencoder``, ``classifier``).

    BadInput when the file is missing, damaged, of another origin or of another kind.
    """
    file = Path(path)
    if not file.is_file():
        raise BadInput(f"There is no weight file {str(path)!r}.")
    try:
        with safe_open(file, framework="pt") as handle:
            text = (handle.metadata() or {}).get(KEY)
            state = {k: handle.get_tensor(k) for k in handle.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path} cannot be read as safetensors: {str(error).rstrip('.')}.") from error
    if text is None:
        raise BadInput(
            f"{path} holds weights but no cfalign description; expected a file from `cfalign train {kind}`, or name a "
            "factory as path/to/file.py:factory."
        )
    try:
        config: dict[str, Any] = dict(json.loads(text))
    except (TypeError, ValueError) as error:
        raise BadInput(f"The description in {path} is damaged: {error}.") from error
    if config.get("kind") != kind:
        raise BadInput(f"{path} holds a {config.get('kind')!r}, expected a {kind!r}.")
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, config


def built(build: Callable[[dict[str, Any]], Network], config: dict[str, Any], path: str | Path) -> Network:
    """The network that a weight file describes; BadInput when this version cannot make it."""
    try:
        return build(config)
    except (KeyError, TypeError, ValueError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise BadInput(f"{path} describes a network that this cfalign cannot build: {what}.") from error


def load_into(module: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Load strictly; BadInput names a key that does not fit. The module ends in evaluation mode."""
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise BadInput(f"The weights in {path} do not fit the network they describe: {reason}.") from error
    module.eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def parameters(module: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in module.parameters() if isinstance(p, torch.nn.Parameter))
