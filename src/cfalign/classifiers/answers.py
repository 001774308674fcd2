"""What a model returns, whatever its form, as one tensor or array with its heads.

A network may return auxiliary heads, features or a loss beside its heads; they play no part in an audit. A black box
may return tables with named columns. Names decide where there are names, shapes otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from cfalign._heads.names import matching
from cfalign._heads.scoring import in_columns

MAIN = ("logits", "out", "output", "outputs", "pred", "preds", "prediction", "predictions", "scores", "y_hat")
"""What the heads are called in an answer with names, the likeliest first."""
PROBABILITIES = ("probs", "probabilities", "probability", "proba")
"""The same for probabilities, which come first where the model is said to give them."""
AUXILIARY = "aux"


def main_output(out: Any, *, images: int, targets: Sequence[str], probabilities: bool = False) -> Any:
    """The tensor with the heads in what a network returned; ``out`` itself where none is found.

    In a mapping, named tuple or dataclass: the parts called as the targets, else the part called ``logits`` or one of
    the other usual names, else the only one that has the shape [image, target] and is not called ``aux…``. In a list or
    tuple: one part per target, else the first of that shape; of logits and their probabilities, those that the link
    asks for.
    """
    if isinstance(out, Tensor):
        return out
    named = _named_parts(out)
    if named is not None:
        found = _of_targets(named, images, targets)
        return _of_names(out, named, images, targets, probabilities) if found is None else found
    if not isinstance(out, list | tuple):
        return out
    if _one_each(out, images, targets):
        return torch.stack([part.reshape(images) for part in out], dim=1)
    fitting = [part for part in out if _fits(part, images, targets)]
    if fitting:
        return _asked_for(fitting, probabilities)
    deeper = (main_output(part, images=images, targets=targets, probabilities=probabilities) for part in out)
    return next((part for part in deeper if _fits(part, images, targets)), out)


def _named_parts(out: Any) -> dict[str, Any] | None:
    """The parts of an answer that has names for them; None of one that has none."""
    if isinstance(out, Mapping):
        return {str(name): part for name, part in out.items()}
    if isinstance(out, tuple) and hasattr(out, "_fields"):
        return dict(zip(out._fields, out, strict=True))
    if dataclasses.is_dataclass(out) and not isinstance(out, type):
        return {each.name: getattr(out, each.name) for each in dataclasses.fields(out)}
    held = vars(out) if hasattr(out, "__dict__") and isinstance(getattr(out, "logits", None), Tensor) else None
    return None if held is None else {**held, "logits": out.logits}


def _of_targets(named: Mapping[str, Any], images: int, targets: Sequence[str]) -> Tensor | None:
    """The columns of parts that are called as the targets."""
    keys = [matching(target, list(named)) for target in targets]
    parts = [named[key] for key in keys if key is not None]
    return torch.stack([p.reshape(images) for p in parts], dim=1) if _one_each(parts, images, targets) else None


def _of_names(out: Any, named: Mapping[str, Any], images: int, targets: Sequence[str], probabilities: bool) -> Any:
    fitting = {name: part for name, part in named.items() if _fits(part, images, targets)}
    order = (*PROBABILITIES, *MAIN) if probabilities else (*MAIN, *PROBABILITIES)
    usual = next((name for name in order if name in fitting), None)
    if usual is not None:
        return fitting[usual]
    rest = [part for name, part in fitting.items() if not name.lower().startswith(AUXILIARY)]
    if len(rest) == 1 or (rest and isinstance(out, tuple)):
        return rest[0]
    return out


def _fits(part: Any, images: int, targets: Sequence[str]) -> bool:
    return isinstance(part, Tensor) and in_columns(part, images=images, targets=len(targets)) is not None


def _one_each(parts: Sequence[Any], images: int, targets: Sequence[str]) -> bool:
    """Whether there is one column for every target: [image], or [image, 1]."""
    if len(parts) != len(targets):
        return False
    return all(isinstance(p, Tensor) and tuple(p.shape) in ((images,), (images, 1)) for p in parts)


def _asked_for(fitting: Sequence[Tensor], probabilities: bool) -> Tensor:
    """The first; but where one is the probabilities of another, the one of the two that the link asks for."""
    first = fitting[0]
    for other in fitting[1:]:
        logits, shares = (other, first) if _is_link_of(first, other) else (first, other)
        if _is_link_of(shares, logits):
            return shares if probabilities else logits
    return first


@torch.no_grad()
def _is_link_of(shares: Tensor, logits: Tensor) -> bool:
    """Whether ``shares`` is the sigmoid or the softmax of ``logits``."""
    if shares.shape != logits.shape or not (shares.is_floating_point() and logits.is_floating_point()):
        return False
    wanted = [torch.sigmoid(logits.float())]
    wanted += [torch.softmax(logits.float(), dim=-1)] if logits.ndim and logits.shape[-1] > 1 else []
    return any(torch.allclose(shares.float(), each, atol=1e-3) for each in wanted)


def described_answer(out: Any) -> str:
    """What a model returned, in a few words: its type, and the shapes of the tensors in it."""
    if isinstance(out, Tensor):
        return f"a tensor of shape {list(out.shape)}"
    named = _named_parts(out)
    if named is not None:
        parts = [f"{n!r} {list(p.shape)}" if isinstance(p, Tensor) else repr(n) for n, p in named.items()]
        more = f", … {len(parts)} in all" if len(parts) > 6 else ""
        return f"{type(out).__name__} with {', '.join(parts[:6]) or 'nothing'}{more}"
    if isinstance(out, list | tuple) and any(isinstance(part, Tensor) for part in out):
        shapes = [str(list(p.shape)) if isinstance(p, Tensor) else type(p).__name__ for p in out]
        return f"{type(out).__name__} of {', '.join(shapes[:6])}{', …' if len(shapes) > 6 else ''}"
    return type(out).__name__
