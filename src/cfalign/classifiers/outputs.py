"""From a model's outputs to logits, one column per target, under every link."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from cfalign._errors import BadModel
from cfalign._heads.scoring import in_columns
from cfalign.classifiers.answers import described_answer

Link = Literal["sigmoid", "softmax", "probability"]
"""The function from outputs to probabilities; with ``"probability"`` they already are."""


BEYOND = 1e-4  # how far rounding may carry a probability beyond 0 and 1


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
    hint = "; return its logits alone" if not isinstance(out, Tensor) else ""
    raise BadModel(
        f"Classifier {name!r} returned {described_answer(out)} for {images} images; expected [{images}, {targets}]: "
        f"one column per target{hint}."
    )


def checked_probabilities(columns: Tensor, *, name: str) -> Tensor:
    """The answer itself. Raises BadModel where a value lies outside [0, 1] by more than rounding; NaN may be there."""
    known = columns.detach()
    if ((known < -BEYOND) | (known > 1 + BEYOND)).any():
        known = known[~torch.isnan(known)]
        raise BadModel(
            f"Classifier {name!r} returned values between {known.min():.3g} and {known.max():.3g}; expected "
            "probabilities in [0, 1]: apply its sigmoid or softmax first."
        )
    return columns


def numbers(columns: Tensor, *, name: str, whole: bool) -> Tensor:
    """The answer in float32. Raises BadModel for another kind than real numbers, and for whole ones unless ``whole``:
    a class that was decided for is no logit.
    """
    if columns.is_floating_point() or (whole and not columns.is_complex()):
        return columns.float()
    raise BadModel(
        f"Classifier {name!r} returned numbers of type {columns.dtype}; expected logits, which are floats: return what "
        "comes before argmax or rounding."
    )
