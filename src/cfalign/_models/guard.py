"""The user's models behind the protocols: leave them as they came, know where they live, say when their code fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from cfalign._errors import BadModel, CfalignError

DEPTH = 5  # a wrapper, its function, what that is bound to, a list there, the module in it


def held_by(model: Any) -> list[Any]:
    """``model`` and the objects it holds, each once: torch modules (not their submodules), functions, plain objects.

    Looks into attributes, lists, dicts, bound methods, partials and closures; not into classes and Python modules.
    """
    found: dict[int, Any] = {}
    _gather(model, found, DEPTH)
    return list(found.values())


def _gather(thing: Any, found: dict[int, Any], depth: int) -> None:
    if id(thing) in found or depth < 0 or isinstance(thing, type | ModuleType | Tensor):
        return
    if isinstance(thing, list | tuple | Mapping):
        for part in thing.values() if isinstance(thing, Mapping) else thing:
            _gather(part, found, depth - 1)
        return
    if not (hasattr(thing, "__dict__") or hasattr(thing, "__self__")):
        return
    found[id(thing)] = thing
    if not isinstance(thing, nn.Module):
        for part in _parts(thing):
            _gather(part, found, depth - 1)


def _parts(thing: Any) -> Iterator[Any]:
    yield from getattr(thing, "__dict__", {}).values()
    yield getattr(thing, "__self__", None)
    if isinstance(thing, partial):
        yield from (thing.func, thing.args, thing.keywords)
    yield getattr(thing, "__func__", None)
    if isinstance(thing, FunctionType):
        for cell in thing.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # a name that is not bound yet
                continue


def modules_of(model: Any) -> list[nn.Module]:
    """The torch modules that ``model`` is or holds, see ``held_by``."""
    return [thing for thing in held_by(model) if isinstance(thing, nn.Module)]


def device_of(model: Any) -> torch.device:
    """Where the model's parameters or buffers live; the CPU when it has none."""
    for module in modules_of(model):
        for tensor in (*module.parameters(), *module.buffers()):
            return tensor.device
    return torch.device("cpu")


@contextmanager
def undisturbed(*models: Any) -> Iterator[None]:
    """Evaluation mode without parameter gradients inside; afterwards train/eval mode of every submodule, requires_grad,
    and the global random state are as they were. Gradients with respect to inputs still flow.
    """
    modules = [sub for model in models for top in modules_of(model) for sub in top.modules()]
    parameters = [p for model in models for top in modules_of(model) for p in top.parameters()]
    training = [m.training for m in modules]
    required = [p.requires_grad for p in parameters]
    random_state = torch.random.get_rng_state()
    try:
        for module in modules:
            module.training = False
        for parameter in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode
        for parameter, flag in zip(parameters, required, strict=True):
            parameter.requires_grad_(flag)
        torch.random.set_rng_state(random_state)


@contextmanager
def user_code(who: str) -> Iterator[None]:
    """Whatever the user's model raises inside becomes BadModel: "<who> raised <error>", in one line."""
    try:
        yield
    except (CfalignError, MemoryError):
        raise
    except Exception as error:
        raise BadModel(f"{who} raised {described(error)}.") from error


def described(error: BaseException) -> str:
    """Type and message of an error in one line."""
    text = " ".join(str(error).split()).rstrip(".")
    text = text if len(text) <= 300 else text[:299] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
