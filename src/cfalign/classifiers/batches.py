"""Models that take batches of certain sizes only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


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
