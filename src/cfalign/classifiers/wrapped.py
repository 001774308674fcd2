"""A user's torch module as a classifier: named targets, link, normalisation and input size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from cfalign.composition import Composition, head, parse
from cfalign.errors import BadInput, BadModel
from cfalign.isolation import device_of

Link = Literal["sigmoid", "softmax", "probability"]


class WrappedClassifier:
    """Resizes and normalises differentiably, calls the module, and gives one logit per target."""

    differentiable = True

    def __init__(
        self,
        module: nn.Module,
        targets: Sequence[str],
        *,
        link: Link = "sigmoid",
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        size: int | None = None,
        name: str = "classifier",
    ) -> None:
        if not isinstance(module, nn.Module):
            raise BadInput(
                f"Expected a torch.nn.Module, got {type(module).__name__}; wrap a plain function with black_box()."
            )
        if link not in ("sigmoid", "softmax", "probability"):
            raise BadInput(f"link must be 'sigmoid', 'softmax' or 'probability', got {link!r}.")
        self.module, self.link, self.size, self.name = module, link, size, name
        self.targets = checked_targets(targets)
        self.normalize = (
            None if normalize is None else tuple(torch.tensor(list(part)).view(1, -1, 1, 1) for part in normalize)
        )

    def __getitem__(self, target: str) -> Composition:
        """One head, e.g. ``clf["smiling"]``."""
        return head(self, target)

    def compose(self, text: str) -> Composition:
        """``clf.compose("smiling + 0.3*arched_eyebrows")``."""
        return parse(text, self)

    def logits(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to logits [n, target]; sigmoid(logit) is the probability under every link."""
        x = images.to(device_of(self.module))
        if self.size is not None and x.shape[-2:] != (self.size, self.size):
            x = functional.interpolate(x, (self.size, self.size), mode="bilinear", antialias=x.shape[-1] > self.size)
        if self.normalize is not None:
            mean, std = (part.to(x) for part in self.normalize)
            x = (x - mean) / std
        out = self.module(x)
        if not isinstance(out, Tensor) or out.ndim not in (1, 2):
            shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise BadModel(
                f"Classifier {self.name!r} returned {shape}; expected a tensor [image, {len(self.targets)}]."
            )
        out = out.view(len(x), -1)
        if self.link == "softmax":
            return _softmax_logits(out)
        return torch.logit(out.clamp(1e-7, 1 - 1e-7)) if self.link == "probability" else out


def _softmax_logits(out: Tensor) -> Tensor:
    """log p − log(1 − p) of every class, without leaving log space."""
    count = out.shape[1]
    if count < 2:
        return out
    others = out[:, None, :].expand(-1, count, -1).masked_fill(
        torch.eye(count, dtype=torch.bool, device=out.device)[None], -torch.inf
    )  # fmt: skip
    return out - torch.logsumexp(others, dim=2)


def checked_targets(targets: Sequence[str]) -> tuple[str, ...]:
    """Target names in lower snake case; BadInput when there are none or two are alike."""
    if isinstance(targets, str) or not targets:
        raise BadInput(f"targets must be a list of at least one name, got {targets!r}.")
    names = [re.sub(r"\W+", "_", str(t).strip()).strip("_").lower() for t in targets]
    double = next((n for n in names if names.count(n) > 1), None)
    if double is not None:
        raise BadInput(f"Two targets are called {double!r}; expected different names.")
    if not all(names):
        raise BadInput(f"A target has no letters or digits in its name: {targets!r}.")
    return tuple(names)


def wrap(
    module: nn.Module,
    targets: Sequence[str],
    *,
    link: Link = "sigmoid",
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
    size: int | None = None,
    name: str = "classifier",
) -> WrappedClassifier:
    """A torch module as a classifier.

    ``targets`` one name per output; ``link`` what turns outputs into probabilities (``"probability"``: they are already);
    ``normalize`` (mean, std) per channel of images in [0, 1]; ``size`` the side the module expects (bilinear resize).
    """
    return WrappedClassifier(module, targets, link=link, normalize=normalize, size=size, name=name)
