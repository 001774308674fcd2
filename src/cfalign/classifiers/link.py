"""What a network's outputs are: logits, probabilities or their logarithms, whatever it is said to return.

A sigmoid of probabilities lies in [0.5, 0.73], so that every image would be predicted positive. Whether outputs are
probabilities is told by the operation that made them, which torch records for its gradients, and by their values.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cfalign._errors import BadInput
from cfalign.classifiers.outputs import Link

Origin = Literal["bounded", "free", "unknown"]
"""Of outputs: made by a sigmoid or softmax, by an operation without bounds such as a linear layer, or neither."""
ROUNDING = 2e-3  # of sums of probabilities, in half precision too
_BOUNDED = frozenset({"Sigmoid", "Softmax", "Hardsigmoid"})
_FREE = re.compile(
    r"Addmm|Mm|Bmm|Baddbmm|Addbmm|Addmv|Mv|Dot|Addr|Linear|Mkldnn\w*|\w*Conv\w*|\w*(Batch|Layer|Group|RMS)Norm\w*"
    r"|Embedding\w*|AccumulateGrad|Bilinear|Trilinear|\w*LSTM\w*|\w*Rnn\w*"
)
_PASSING = re.compile(
    r"\w*View\w*|\w*Reshape\w*|Flatten|Unflatten|Select\w*|Slice\w*|Narrow|Squeeze|Unsqueeze|T|\w*Transpose\w*|Permute"
    r"|Cat|Stack|Index\w*|Gather|Take\w*|Clone|\w*ToCopy\w*|Alias|Expand|Repeat|Unbind\w*|Split\w*|Diagonal|AsStrided"
    r"|CopySlices|Flip|Roll|\w*Pad\w*|Detach|Contiguous|MaskedFill|MaskedSelect|Where|Add|Sub|Rsub|Mul|Div|Neg|Mean|Sum"
    r"|Abs|Pow|Sqrt|Std\w*|Var\w*|\w*Max|\w*Min|Maximum|Minimum|\w*Pool\w*|Sort|Topk|Median|\w*Upsample\w*|Relu"
    r"|LeakyRelu|Gelu|Silu|Elu|NativeDropout|Linalg\w*Norm|Norm"
)
_MOST = 2000  # operations looked at


@dataclass(frozen=True)
class Reading:
    """How outputs are read."""

    link: Link
    note: str | None = None
    """A sentence where that is not what was said or usual."""


def reading(outputs: Tensor, declared: Link | None, *, name: str, origin: Origin) -> Reading:
    """How outputs [n, target] of a classifier are read, from what was declared, what made them, and their values.

    Certain are the outputs of a sigmoid or softmax, rows that sum to 1, and logarithms of such rows: they are read as
    what they are. Raises BadInput where nothing was declared and outputs may be either.
    """
    values = outputs.detach()
    values = values[torch.isfinite(values).all(dim=1)]
    otherwise = "" if declared in (None, "probability") else f", although link={declared!r} was said"
    if declared == "probability" or not len(values):
        return Reading(declared or "sigmoid")
    if _log_shares(values):
        known = declared == "softmax"
        what = "logarithms of probabilities that sum to 1, so they are read with link='softmax'"
        return Reading("softmax", None if known else f"Classifier {name!r} returns {what}{otherwise}.")
    inside = bool(values.min() >= -1e-6) and bool(values.max() <= 1 + 1e-6)
    if inside and (origin == "bounded" or _shares(values)):
        why = "a sigmoid or softmax made them" if origin == "bounded" else "they sum to 1 for every image"
        what = f"probabilities ({why}), so they are read as they are, with link='probability'"
        return Reading("probability", f"Classifier {name!r} returns {what}{otherwise}.")
    spread = values.max() - values.min()
    if not inside or origin == "free" or float(spread) < ROUNDING:
        return Reading(declared or "sigmoid")
    seen = f"Classifier {name!r} returns values between {values.min():.3g} and {values.max():.3g} alone, which may be"
    if declared is None:
        raise BadInput(f"{seen} probabilities or logits: say link='probability', or link='sigmoid' for logits.")
    return Reading(declared, f"{seen} probabilities; they are read with link={declared!r}, as was said.")


def _shares(values: Tensor) -> bool:
    """Whether the rows are probabilities of classes that exclude each other, and not the same for every image."""
    if values.shape[1] < 2 or float((values - values[:1]).abs().max()) < ROUNDING:
        return False
    return float((values.sum(dim=1) - 1).abs().max()) < ROUNDING


def _log_shares(values: Tensor) -> bool:
    if values.shape[1] < 2 or float(values.max()) > 1e-6:
        return False
    return float(values.logsumexp(dim=1).abs().max()) < ROUNDING


def origin_of(outputs: Tensor) -> Origin:
    """What made the outputs, as far back as the first operation that bounds its result or does not.

    Between it and the outputs may lie arithmetic and choices of columns, as in the mean of several networks.
    """
    if outputs.grad_fn is None:
        return "unknown"
    found: set[Origin] = set()
    seen: set[Any] = set()
    waiting = [outputs.grad_fn]
    while waiting:
        step: Any = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        kind = _kind(step.name())
        if kind is not None:
            found.add(kind)
        else:
            waiting += [before for before, _ in step.next_functions if before is not None]
        if len(seen) > _MOST:
            return "unknown"
    return first_of(found)


def first_of(found: Collection[Origin]) -> Origin:
    """What several parts of a sum are together: unknown if one is, then free if one is."""
    order: tuple[Origin, ...] = ("unknown", "free", "bounded")
    return next((kind for kind in order if kind in found), "unknown")


def _kind(name: str) -> Origin | None:
    """What an operation of torch's record of gradients does to its result; None where it hands on what came."""
    operation = re.sub(r"Backward\d*$", "", name.rpartition("::")[2])
    if operation in _BOUNDED:
        return "bounded"
    if _FREE.fullmatch(operation):
        return "free"
    return None if _PASSING.fullmatch(operation) else "unknown"
