"""A user's torch module as a classifier: named targets, link, and what is done to images before it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import Composition, head, parse
from cfalign._models.guard import device_of, user_code
from cfalign.classifiers.preprocessing import Preprocessing

Link = Literal["sigmoid", "softmax", "probability"]
Prepare = Callable[[Tensor], Tensor]


class WrappedClassifier:
    """Prepares images differentiably, calls the module, and gives one logit per target."""

    differentiable = True
    spec: str | None = None
    """What ``load`` made it from, so that a composition of its heads can be saved."""
    digest: str | None = None
    """Hash of the file that it was exported to: its code is not in the weights."""

    def __init__(
        self,
        module: nn.Module,
        targets: Sequence[str],
        *,
        link: Link = "sigmoid",
        normalize: tuple[Sequence[float], Sequence[float]] | None = None,
        size: int | None = None,
        prepare: Prepare | None = None,
        name: str = "classifier",
    ) -> None:
        if not isinstance(module, nn.Module):
            raise BadInput(
                f"Expected a torch.nn.Module, got {type(module).__name__}; wrap a plain function with black_box()."
            )
        if link not in ("sigmoid", "softmax", "probability"):
            raise BadInput(f"link must be 'sigmoid', 'softmax' or 'probability', got {link!r}.")
        if prepare is not None and (size is not None or normalize is not None):
            raise BadInput("Give either prepare or size and normalize: prepare does all that comes before the module.")
        self.module, self.link, self.name = module, link, name
        self.targets = checked_targets(targets)
        if link == "softmax" and len(self.targets) < 2:
            raise BadInput("link='softmax' needs at least two targets, one per class; for one output use 'sigmoid'.")
        self.prepare: Prepare = prepare or resized_and_normalised(size, normalize)

    def __getitem__(self, target: str) -> Composition:
        """One head, e.g. ``clf["smiling"]``."""
        return head(self, target)

    def compose(self, text: str) -> Composition:
        """``clf.compose("smiling + 0.3*arched_eyebrows")``."""
        return parse(text, self)

    def logits(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to logits [n, target]; sigmoid(logit) is the probability under every link."""
        x = prepared(images.to(device_of(self.module)), self.prepare, name=self.name)
        with user_code(f"Classifier {self.name!r}, given images of shape {list(x.shape)},"):
            out = self.module(x)
        return as_logits(checked_columns(out, name=self.name, images=len(x), targets=len(self.targets)), self.link)


def prepared(images: Tensor, prepare: Prepare, *, name: str) -> Tensor:
    """What a model gets of images [n, c, h, w] in [0, 1]. BadModel for another number of channels than it takes."""
    channels = getattr(prepare, "channels", None)
    if channels is not None and channels != images.shape[1]:
        raise BadModel(f"Classifier {name!r} takes images of {channels} channels, but these have {images.shape[1]}.")
    with user_code(f"The preprocessing of classifier {name!r}, given images of shape {list(images.shape)},"):
        return prepare(images)


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
    """A model's answer as [image, target]; one target may come as [image]. BadModel for any other type or shape."""
    if isinstance(out, Tensor):
        if tuple(out.shape) == (images, targets):
            return out
        if targets == 1 and tuple(out.shape) == (images,):
            return out[:, None]
    came = f"a tensor of shape {list(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    hint = "; return its logits alone" if not isinstance(out, Tensor) else ""
    raise BadModel(
        f"Classifier {name!r} returned {came} for {images} images; expected [{images}, {targets}]: one column per "
        f"target{hint}."
    )


def resized_and_normalised(
    size: int | None, normalize: tuple[Sequence[float], Sequence[float]] | None
) -> Preprocessing:
    """Bilinear to squares of side ``size``, then (means, stds); BadInput where those are something else."""
    square = None if size is None else (size, size)
    if normalize is None:
        return Preprocessing(resize=square)
    try:
        mean, std = (tuple(float(v) for v in part) for part in normalize)
    except (TypeError, ValueError) as error:
        raise BadInput(f"normalize must be (means, stds), one number per channel; got {normalize!r}.") from error
    channels = len(mean) if len(mean) > 1 else None  # one number is for all channels
    return Preprocessing(channels=channels, resize=square, mean=mean, std=std)


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
    prepare: Prepare | None = None,
    name: str = "classifier",
) -> WrappedClassifier:
    """A torch module as a classifier.

    ``targets`` one name per output; ``link`` what turns outputs into probabilities (``"probability"``: they are
    already); ``normalize`` (mean, std) per channel of images in [0, 1]; ``size`` the side the module expects (bilinear
    resize); ``prepare``, in place of the last two, any differentiable callable from images [n, c, h, w] in [0, 1] to
    what the module expects, such as ``cfalign.classifiers.Preprocessing``.
    """
    return WrappedClassifier(module, targets, link=link, normalize=normalize, size=size, prepare=prepare, name=name)
