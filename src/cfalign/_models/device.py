"""The device that work runs on: its name, whether it is here, and models that are there for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from cfalign._errors import BadInput

AUTO = "auto"
_IN_USE: ContextVar[torch.device | None] = ContextVar("device", default=None)


def devices_here() -> tuple[str, ...]:
    """The devices of this machine that PyTorch can use, the CPU first."""
    if not torch.accelerator.is_available():
        return ("cpu",)
    found = torch.accelerator.current_accelerator()
    kind = "cpu" if found is None else found.type
    return ("cpu", *(f"{kind}:{i}" for i in range(torch.accelerator.device_count())))


def device_named(name: str) -> torch.device:
    """The device of a name such as ``cuda:1``; ``auto`` is the accelerator of this machine, or the CPU without one.

    Raises BadInput for a device that is not here, with those that are.
    """
    found = torch.accelerator.current_accelerator() if name == AUTO and torch.accelerator.is_available() else None
    wanted = str(found or "cpu") if name == AUTO else name
    try:
        there = torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError) as error:  # torch answers with either, by kind of device
        raise _absent(name, str(error).splitlines()[0].rstrip(".")) from error
    if there.type == "meta":
        raise _absent(name, "tensors there hold no values")
    return there


def refuse_absent(name: str | None) -> None:
    """Raises BadInput as ``device_named``; None names no device."""
    if name is not None:
        device_named(name)


def _absent(name: str, reason: str) -> BadInput:
    return BadInput(f"device: expected {', '.join(devices_here())} or {AUTO}, got {name!r}: {reason}.")


@contextmanager
def on_device(name: str | None) -> Iterator[None]:
    """Inside, all work of this thread runs on a device: the models are moved there for each call, and put back.

    ``name``: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto`` for the accelerator of this machine; None changes
    nothing. Without a device models work where they lie. Raises BadInput for a device that is not here.

    >>> clf, ae = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    >>> x = cfa.synthetic.render(cfa.synthetic.sample(1, seed=0))
    >>> with cfa.engines.on_device("cpu"):
    ...     found = cfa.latent_shift(x, clf["smiling"], autoencoder=ae)
    """
    if name is None:
        yield
        return
    token = _IN_USE.set(device_named(name))
    try:
        yield
    finally:
        _IN_USE.reset(token)


def device_in_use() -> torch.device | None:
    """The device of ``on_device``, None outside."""
    return _IN_USE.get()


def use_device(name: str | None) -> None:
    """Use a device from now on, in a process that does nothing else."""
    _IN_USE.set(None if name is None else device_named(name))


@contextmanager
def moved(modules: Sequence[nn.Module], device: torch.device | None) -> Iterator[None]:
    """Inside, the parameters and buffers of the modules lie on the device; None leaves them where they are.

    Afterwards they have the very memory that they had before. Raises BadInput where the device cannot hold them.
    """
    kept: list[tuple[Tensor, Tensor]] = []
    try:
        for tensor in () if device is None else _tensors(modules):
            if tensor.device != device:
                kept.append((tensor, tensor.data))
                _put(tensor, device)
        yield
    finally:
        for tensor, data in kept:
            tensor.data = data


def _tensors(modules: Sequence[nn.Module]) -> list[Tensor]:
    every = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
    return [tensor for tensor in {id(t): t for t in every}.values() if not (is_lazy(tensor) or tensor.is_meta)]


def _put(tensor: Tensor, device: torch.device | None) -> None:
    try:
        tensor.data = tensor.data.to(device)
    except (RuntimeError, TypeError) as error:  # no room there, or no such type of numbers
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadInput(f"device: the models cannot be put on {device}: {reason}; name another device.") from error
