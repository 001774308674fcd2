"""Latent shift for users of Captum: the difference between reconstruction and counterfactual as an attribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from captum.attr import Attribution
from torch import Tensor

from cfalign._counterfactuals.methods import latent_shift
from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import head
from cfalign._types import Autoencoder

Link = Literal["logit", "probability"]


class LatentShift(Attribution):  # type: ignore[misc]
    """x0 − x_λ per pixel and channel: what has to leave the image for the score of a target to fall.

    ``forward_func``: images [n, c, h, w] in [0, 1] → outputs [n, target] or [n], logits unless ``link`` is
    ``"probability"``; differentiable. ``autoencoder``: any object with ``encode`` and ``decode``.

    >>> clf, ae = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    >>> x = cfa.synthetic.render(cfa.synthetic.sample(2, seed=0))
    >>> cfa.LatentShift(clf.logits, ae).attribute(x, target=clf.targets.index("no_beard")).shape
    torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        autoencoder: Autoencoder,
        *,
        link: Link = "logit",
        options: SearchOptions | None = None,
    ) -> None:
        if link not in get_args(Link):
            raise BadInput(f"link must be 'logit' or 'probability', got {link!r}.")
        super().__init__(forward_func)
        self.autoencoder, self.link, self.options = autoencoder, link, options

    def attribute(
        self,
        inputs: Tensor,
        target: int | Sequence[int] | Tensor | None = None,
        *,
        additional_forward_args: Any = None,
        batch: int = 64,
    ) -> Tensor:
        """Attributions, the shape of ``inputs`` [n, c, h, w] in [0, 1]; positive where pixels darken on the way to the
        counterfactual.

        ``target``: a column of the outputs, or one per image; None for outputs [n]. ``additional_forward_args``
        (one, or a tuple) go to ``forward_func`` as they are. Images on which the target is not predicted, or for which
        there is no counterfactual, have NaN: nothing can be attributed. BadInput as in ``cfalign.latent_shift``.
        """
        if not isinstance(inputs, Tensor) or inputs.ndim != 4:
            raise BadInput("LatentShift attributes one tensor of images [n, c, h, w] in [0, 1].")
        columns = _targets(target, len(inputs))
        arguments = additional_forward_args
        outputs = _Outputs(self.forward_func, arguments if isinstance(arguments, tuple) else (arguments,), self.link)
        with torch.no_grad():
            outputs.targets = tuple(str(i) for i in range(_columns(outputs, inputs[:1])))
        result = torch.full_like(inputs, torch.nan)
        for column in sorted(set(columns)):
            rows = torch.tensor([at for at, c in enumerate(columns) if c == column])
            found = latent_shift(
                inputs[rows].detach(), head(outputs, str(column)), autoencoder=self.autoencoder, options=self.options,
                batch=batch,
            )  # fmt: skip
            walked = torch.tensor([o.walked for o in found.outcomes])[:, None, None, None].to(found.images.device)
            change = torch.where(walked, found.reconstructions - found.images, torch.nan)
            result[rows] = change.to(result)
        return result

    @property
    def multiplies_by_inputs(self) -> bool:
        """As Captum asks: the attribution is a change of the image, not a gradient to be multiplied with it."""
        return True

    def has_convergence_delta(self) -> bool:
        """There is none: the attributions of an image do not add up to a score."""
        return False


class _Outputs:
    """What ``forward_func`` returns, as heads named by their column."""

    name = "forward_func"
    differentiable = True
    targets: tuple[str, ...] = ()

    def __init__(self, forward_func: Callable[..., Tensor], arguments: tuple[Any, ...], link: Link) -> None:
        self.forward_func, self.link = forward_func, link
        self.arguments = () if arguments == (None,) else arguments

    def logits(self, images: Tensor, /) -> Tensor:
        out = self.forward_func(images, *self.arguments)
        if not isinstance(out, Tensor) or out.ndim not in (1, 2) or len(out) != len(images):
            came = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise BadModel(f"forward_func returned {came} for {len(images)} images; expected [n] or [n, target].")
        out = out[:, None] if out.ndim == 1 else out
        return torch.logit(out.clamp(1e-7, 1 - 1e-7)) if self.link == "probability" else out


def _columns(outputs: _Outputs, image: Tensor) -> int:
    return int(outputs.logits(image).shape[1])


def _targets(target: int | Sequence[int] | Tensor | None, count: int) -> list[int]:
    if target is None:
        return [0] * count
    if isinstance(target, Tensor):
        target = target.tolist()
    if isinstance(target, int):
        return [target] * count
    columns = [int(t) for t in target]
    if len(columns) != count:
        raise BadInput(f"Expected one target for all images or one for each of the {count}, got {len(columns)}.")
    return columns
