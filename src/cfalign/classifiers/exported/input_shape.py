"""Input of an exported model: batch sizes, square images, one or three channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from cfalign._errors import BadInput


def batched(run: Callable[[Tensor], Tensor], images: Tensor, *, least: int = 1, most: int | None = None) -> Tensor:
    """``run`` of all images [n, …], at least ``least`` and at most ``most`` at a time.

    A batch that is too small is filled with its last image, and the answer [n, …] is cut. Differentiable.
    """
    parts = []
    for part in images.split(most or max(len(images), 1)):
        short = max(least - len(part), 0) if len(part) else 0
        full = torch.cat([part, part[-1:].expand(short, *part.shape[1:])]) if short else part
        answer = run(full)
        fits = isinstance(answer, Tensor) and answer.ndim and len(answer) == len(full)
        parts.append(answer[: len(part)] if fits else answer)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def square_side(height: int | None, width: int | None, file: Path) -> int | None:
    """The side of an input of fixed size; None where it is left open. Raises BadInput for a rectangle."""
    if height is not None and width is not None and height != width:
        raise BadInput(f"{file} takes images of {height}×{width}; expected a square, or sizes left open at export.")
    return height if height is not None else width


def channel_count(channels: int | None, file: Path) -> int | None:
    """The fixed number of channels, 1 or 3; None where it is left open. Raises BadInput for another number."""
    if channels not in (None, 1, 3):
        raise BadInput(f"{file} takes images of {channels} channels; expected 1 or 3.")
    return channels
