"""The user's models: left as they came, found on their device, and named when their code fails."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import partial
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cfalign._errors import BadModel, CfalignError
from cfalign._models.device import device_in_use, moved
from cfalign._models.own_code import attributes, closure, is_own, named_globals
from cfalign._models.passes import sizes_kept

LONGEST = 300  # characters of an error's message
DEPTH = 6  # a wrapper, its function, what that is bound to, a list there, the module in it


def modules_of(model: Any) -> list[nn.Module]:
    """The torch modules that ``model`` is or holds, each once, without their submodules.

    Looks into attributes, lists, dicts, bound methods, partials, closures, and the globals that the code of the user's
    functions and methods names; not into other classes and Python modules.
    """
    return list(_modules(model, set(), DEPTH))


def _modules(thing: Any, seen: set[int], depth: int) -> Iterator[nn.Module]:
    if depth < 0 or id(thing) in seen or isinstance(thing, ModuleType | Tensor | str | bytes | np.ndarray):
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        yield thing
        return
    for part in _parts(thing):
        yield from _modules(part, seen, depth - 1)


def _parts(thing: Any) -> Iterator[Any]:
    """The objects that a function, a class of the user's, a container or an object holds."""
    if isinstance(thing, list | tuple | set | frozenset):
        yield from thing
    elif isinstance(thing, Mapping):
        yield from thing.values()
    elif isinstance(thing, FunctionType):
        yield from closure(thing).values()
        yield from (*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values(), *vars(thing).values())
        if is_own(thing):
            yield from named_globals(thing).values()
    elif isinstance(thing, type):
        members = (part for base in thing.__mro__ if is_own(base) for part in vars(base).values())
        yield from (getattr(part, "__func__", part) for part in members)
    else:
        yield from attributes(thing).values()
        yield from _behind(thing)


def _behind(thing: Any) -> Iterator[Any]:
    """What a bound method or a partial calls, and the class of an object."""
    if isinstance(thing, MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    else:
        if isinstance(thing, BuiltinMethodType):
            yield thing.__self__
        if is_own(type(thing)):
            yield type(thing)


def device_of(model: Any) -> torch.device:
    """The device of the model's first parameter or buffer; the CPU when it has none."""
    for module in _modules(model, set(), DEPTH):
        for tensor in (*module.parameters(), *module.buffers()):
            return tensor.device
    return torch.device("cpu")


def floating_type_of(module: nn.Module) -> torch.dtype:
    """The type that a network calculates in: that of its first floating parameter or buffer, of two bytes or more.

    float32 where it has none, as a network of quantised layers.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() and tensor.itemsize > 1:
            return tensor.dtype
    return torch.float32


@contextmanager
def undisturbed(*models: Any) -> Iterator[None]:
    """Evaluation mode without parameter gradients inside. Gradients with respect to inputs still flow.

    The models are on the device in use (``on_device``), where there is one. ``torch.inference_mode`` of the caller is
    off inside, because no gradient flows in it. A size of passes that memory holds is found once (``sizes_kept``).

    Afterwards device, train/eval mode of every submodule and requires_grad are as they were, and so are all random
    generators that are global: torch's on the CPU and on every device, Python's and NumPy's.
    """
    tops = [top for model in models for top in modules_of(model)]
    modules = [sub for top in tops for sub in top.modules() if hasattr(sub, "training")]  # a frozen script has none
    parameters = [parameter for top in tops for parameter in top.parameters()]
    training = [module.training for module in modules]
    parameters = [p for p in parameters if not (is_lazy(p) or p.is_inference())]  # these keep their flag
    required = [parameter.requires_grad for parameter in parameters]
    with _same_randomness(), torch.inference_mode(False), moved(tops, device_in_use()), sizes_kept():
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


@contextmanager
def _same_randomness() -> Iterator[None]:
    """All global random generators are afterwards as they were before."""
    accelerator = torch.accelerator.current_accelerator()
    kind = "cuda" if accelerator is None else accelerator.type
    library = torch.get_device_module(kind)
    drawn = getattr(library, "is_initialized", lambda: False)()  # else no generator there has a state yet
    devices = range(library.device_count() if drawn else 0)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (users' code draws from the global one)
    try:
        with torch.random.fork_rng(devices, device_type=kind):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def user_code(who: str, *, advice: str = "") -> Iterator[None]:
    """Every error that the user's model raises inside becomes BadModel: "<who> raised <error>; <advice>", in one line.

    An exit is an error too. Ctrl-C and a lack of main memory pass. What it prints goes to stderr, because stdout is for
    results.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (CfalignError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        more = f"; {advice}" if advice else ""
        raise BadModel(f"{who} raised {described(error)}{more}.") from error


def described(error: BaseException) -> str:
    """Type and message of an error in one line; of a long message the beginning and the end."""
    try:
        text = " ".join(str(error).split()).rstrip(".")
    except Exception as another:  # the error is the user's too
        text = f"(its text cannot be made: {type(another).__name__})"
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2].rstrip()} … {text[-LONGEST // 2 :].lstrip()}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
