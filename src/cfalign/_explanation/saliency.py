"""Saliency maps through Captum: where a base looks, next to what its counterfactuals change (the paper's Fig. 4)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cfalign._heads.composition import Composition
from cfalign._heads.panel import weights
from cfalign._heads.scoring import logits
from cfalign._models.guard import modules_of, undisturbed
from cfalign._models.passes import fitted, in_passes

METHODS = ("input gradient", "integrated gradients", "guided backprop")
GATES = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.CELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Hardswish,
)
"""Activations at which guided backprop keeps positive gradients alone. Captum knows nn.ReLU; the others are its smooth
kin. A function such as ``torch.relu`` inside a module's ``forward`` cannot be seen."""


class Scored(nn.Module):
    """Images to what is descended for a base, [n]: the logit of a head or logit composition, else the score."""

    def __init__(self, base: Composition) -> None:
        super().__init__()
        self.base = base
        self.weights = weights([base], base.classifiers)
        self.parts = nn.ModuleList(dict.fromkeys(m for c in base.classifiers for m in modules_of(c)))

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in [0, 1] → [n]."""
        rows = torch.zeros(len(images), dtype=torch.int64)
        return self.weights[rows].value(logits(images, self.base.classifiers))


def attributions(images: Tensor, base: Composition, *, batch: int = 16) -> dict[str, Tensor]:
    """Signed attributions of the base on images [n, c, h, w], by method, each the shape of the images.

    The gradient is that of the logit of a head (never saturated); integrated gradients go from black in 50 steps.
    Guided backprop is left out where no module of the classifier is an activation (see ``GATES``): it would be the
    input gradient. The models are left as they came; BadInput as in ``latent_shift`` for a black box.
    """
    from captum.attr import Saliency  # a second to import, so only where it is needed

    scored = Scored(base)
    guided = any(isinstance(m, GATES) for part in scored.parts for m in part.modules())

    def work(rows: slice) -> list[Tensor]:
        x = images.detach()[rows].clone().requires_grad_(True)
        found = [Saliency(scored).attribute(x, abs=False), _integrated(scored, x, batch)]
        return [*found, _guided_backprop(scored, x)] if guided else found

    with undisturbed(*base.classifiers), _quiet():
        parts = in_passes(work, len(images), most=batch, kind="gradient")
    columns = zip(*parts, strict=True)
    return {method: torch.cat(rows).detach().to(images) for method, rows in zip(METHODS, columns, strict=False)}


def _integrated(scored: Scored, x: Tensor, batch: int) -> Tensor:
    from captum.attr import IntegratedGradients

    def attempt(size: int) -> Tensor:
        found: Tensor = IntegratedGradients(scored).attribute(x, n_steps=50, internal_batch_size=size)
        return found

    return fitted(attempt, most=max(batch, len(x)), least=max(1, len(x)), kind="gradient")


def saliency_maps(image: Tensor, base: Composition) -> Mapping[str, Tensor]:
    """Maps of one image [1, c, h, w] by method, [h, w] ≥ 0: the mean over channels of |attribution|."""
    return {method: a[0].abs().mean(dim=0).cpu() for method, a in attributions(image, base).items()}


def _guided_backprop(scored: Scored, x: Tensor) -> Tensor:
    from captum.attr import GuidedBackprop

    class Guided(GuidedBackprop):  # type: ignore[misc]
        """At every activation of ``GATES``, not at nn.ReLU alone."""

        def _register_hooks(self, module: nn.Module) -> None:
            if isinstance(module, GATES):
                self.backward_hooks.append(module.register_full_backward_hook(_positive))

    with _out_of_place(scored):
        result: Tensor = Guided(scored).attribute(x)
    return result


def _positive(_: nn.Module, grad_input: tuple[Tensor, ...] | Tensor, __: object) -> tuple[Tensor, ...]:
    return tuple(g.clamp_min(0) for g in grad_input)


@contextmanager
def _out_of_place(model: nn.Module) -> Iterator[None]:
    """Backward hooks do not go with activations that write over their input."""
    changed = [m for m in model.modules() if isinstance(m, GATES) and getattr(m, "inplace", False)]
    try:
        for module in changed:
            module.inplace = False
        yield
    finally:
        for module in changed:
            module.inplace = True


@contextmanager
def _quiet() -> Iterator[None]:
    """Captum warns that it sets hooks, and removes them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks")
        warnings.filterwarnings("ignore", message="Input Tensor .* did not already require gradients")
        yield


def similarity(maps: Tensor, others: Tensor, *, share: float = 0.1) -> tuple[Tensor, Tensor]:
    """How alike heads look at the same images: cosine and IoU of the top ``share`` of the pixels, both [head, other].

    ``maps`` [head, image, h, w] and ``others`` [other, image, h, w] are ≥ 0; means over images. The cosine of a map of
    zeros is 0. Symmetric: which of two heads uses the other it cannot say.
    """
    flat, other = maps.flatten(2).double(), others.flatten(2).double()
    cosine = torch.einsum("aip,bip->abi", _unit(flat), _unit(other))
    first, second = _top(flat, share), _top(other, share)
    shared = torch.einsum("aip,bip->abi", first, second)
    union = first.sum(dim=2)[:, None] + second.sum(dim=2)[None] - shared
    return cosine.mean(dim=2), (shared / union).mean(dim=2)


def _unit(flat: Tensor) -> Tensor:
    length: Tensor = flat.norm(dim=2, keepdim=True).clamp_min(1e-30)
    return flat / length


def _top(flat: Tensor, share: float) -> Tensor:
    """1 at the strongest pixels, so many for every map."""
    count = max(1, round(share * flat.shape[2]))
    marked: Tensor = torch.zeros_like(flat).scatter_(2, flat.topk(count, dim=2).indices, 1.0)
    return marked
