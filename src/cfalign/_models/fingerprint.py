"""What identifies a model: a hash of everything that decides its answers."""

from __future__ import annotations

import hashlib
import inspect
import re
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import nn

from cfalign._models.guard import held_by


def fingerprint(model: Any) -> str:
    """SHA-256 (16 hex digits) of what decides a model's answers: class, source code, plain attributes, weights.

    Looks at the objects that the model holds too (``isolation.held_by``), not at attributes that begin with an
    underscore and not at code that it merely calls. The same in every process and wherever the files lie.
    """
    digest = hashlib.sha256()
    for thing in held_by(model):
        digest.update(f"{type(thing).__qualname__}\n".encode())
        if isinstance(thing, nn.Module):
            digest.update(re.sub(r"0x[0-9a-f]+", "", repr(thing)).encode())
            for sub in thing.modules():
                _digest_object(digest, sub)
            for name, tensor in thing.state_dict().items():
                digest.update(name.encode())
                _digest_array(digest, tensor)
        else:
            _digest_object(digest, thing)
    return digest.hexdigest()[:16]


def _digest_object(digest: Any, thing: Any) -> None:
    owner = thing if isinstance(thing, FunctionType) else type(thing)
    if getattr(owner, "__module__", "").partition(".")[0] not in ("torch", "cfalign", "functools", "builtins"):
        digest.update(_code(owner).encode())
    if isinstance(thing, nn.Module) and type(thing).__module__.startswith("torch."):
        return  # its repr has said it
    for name, value in sorted(getattr(thing, "__dict__", {}).items()):
        if name.startswith("_") or (name == "training" and isinstance(thing, nn.Module)):
            continue
        if name == "spec" and type(thing).__module__.startswith("cfalign."):
            continue  # where it was loaded from decides no answer
        arrays = value if isinstance(value, list | tuple) else [value]
        if all(isinstance(v, torch.Tensor | np.ndarray) for v in arrays):
            for array in arrays:
                digest.update(name.encode())
                _digest_array(digest, torch.as_tensor(array))
        elif all(isinstance(v, bool | int | float | str | None) for v in arrays):
            digest.update(f"{name}={value!r}\n".encode())


def _code(owner: Any) -> str:
    try:
        return inspect.getsource(owner)
    except (OSError, TypeError):  # typed at a prompt, or built in
        compiled = getattr(owner, "__code__", None)
        return "" if compiled is None else compiled.co_code.hex()


def _digest_array(digest: Any, tensor: torch.Tensor) -> None:
    digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
    digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
