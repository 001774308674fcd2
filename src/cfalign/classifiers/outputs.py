"""From a model's outputs to logits, one column per target, under every link."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from cfalign._errors import BadInput, BadModel
from cfalign._heads.scoring import in_columns

Link = Literal["sigmoid", "softmax", "probability"]
"""The function from outputs to probabilities; with ``"probability"`` they already are."""


def as_logits(out: Tensor, link: Link) -> Tensor:
    """Outputs [n, target] as logits; sigmoid(logit) is the probability under every link."""
    if link == "softmax":
        return _softmax_logits(out)
    return torch.logit(out.clamp(1e-7, 1 - 1e-7)) if link == "probability" else out


def _softmax_logits(out: Tensor) -> Tensor:
    """log p − log(1 − p) of every class, without leaving log space: out − log Σ exp of the others."""
    top = out.argmax(dim=1, keepdim=True)
    is_top = torch.zeros_like(out, dtype=torch.bool).scatter(1, top, True)
    total = out.logsumexp(dim=1, keepdim=True)
    without_top = out.masked_fill(is_top, -torch.inf).logsumexp(dim=1, keepdim=True)
    p = (out - total).exp().masked_fill(is_top, 0.0)  # at most 0.5, where log(1 − p) is exact
    return out - torch.where(is_top, without_top, total + torch.log1p(-p))


def checked_columns(out: object, *, name: str, images: int, targets: int) -> Tensor:
    """A model's answer as [image, target], see ``in_columns``. Raises BadModel for any other type or shape."""
    found = in_columns(out, images=images, targets=targets) if isinstance(out, Tensor) else None
    if found is not None:
        return found
    came = f"a tensor of shape {list(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    hint = "; return its logits alone" if not isinstance(out, Tensor) else ""
    raise BadModel(
        f"Classifier {name!r} returned {came} for {images} images; expected [{images}, {targets}]: one column per "
        f"target{hint}."
    )


def checked_targets(targets: Sequence[str]) -> tuple[str, ...]:
    """Target names in lower snake case. Raises BadInput when there are none or two are alike."""
    if isinstance(targets, str) or not targets:
        raise BadInput(f"targets must be a list of at least one name, got {targets!r}.")
    names = [re.sub(r"\W+", "_", str(t).strip()).strip("_").lower() for t in targets]
    double = next((n for n in names if names.count(n) > 1), None)
    if double is not None:
        raise BadInput(f"Two targets are called {double!r}; expected different names.")
    if not all(names):
        raise BadInput(f"A target has no letters or digits in its name: {targets!r}.")
    return tuple(names)
