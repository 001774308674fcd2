"""The torch modules behind the protocols: leave them as they came, know where they live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def modules_of(model: Any) -> list[nn.Module]:
    """The torch modules that ``model`` is or directly holds."""
    if isinstance(model, nn.Module):
        return [model]
    return [value for value in getattr(model, "__dict__", {}).values() if isinstance(value, nn.Module)]


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
