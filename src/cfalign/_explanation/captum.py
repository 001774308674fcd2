"""Latent shift for users of Captum: the difference between x0 and the counterfactual as an attribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from captum.attr import Attribution
from torch import Tensor

from cfalign._counterfactuals.methods import latent_shift
from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import Composition, head
from cfalign._models.guard import undisturbed, user_code
from cfalign._types import Autoencoder

Link = Literal["logit", "probability"]


class LatentShift(Attribution):  # type: ignore[misc]
    """x0 − x_λ per pixel and channel (Eqs. 1 and 2): what has to leave the image for the score of a target to fall.

    ``forward_func``: images [n, c, h, w] in [0, 1] → outputs [n, target] or [n], logits unless ``link`` is
    ``"probability"``; differentiable. ``autoencoder``: any object with ``encode`` and ``decode``. ``options``: the
    search, as in ``cfalign.latent_shift``. Raises BadInput for an unknown link.

    >>> clf, ae = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    >>> method = cfa.LatentShift(clf.logits, ae)
    >>> method
    LatentShift('logits', link='logit')
    >>> x = cfa.synthetic.render(cfa.synthetic.sample(2, seed=0))
    >>> method.attribute(x, target=clf.targets.index("no_beard")).shape
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

    def __repr__(self) -> str:
        called = getattr(self.forward_func, "__name__", type(self.forward_func).__name__)
        return f"LatentShift({called!r}, link={self.link!r})"

    def attribute(
        self,
        inputs: Tensor,
        target: int | Sequence[int] | Tensor | None = None,
        *,
        additional_forward_args: Any = None,
        batch: int = 64,
    ) -> Tensor:
        """Attributions of the shape of ``inputs`` [n, c, h, w] in [0, 1].

        They are positive where pixels darken on the way to the counterfactual, and NaN for images on which the target
        is not predicted or for which there is no counterfactual. The model and the autoencoder are left as they came.

        Args:
            inputs: the images; they are not changed.
            target: a column of the outputs for all images, or one per image; None for outputs [n].
            additional_forward_args: one argument, or a tuple of them, given to ``forward_func`` as they are.
            batch: images per pass.

        Raises BadInput for inputs and targets that cannot be used and as ``cfalign.latent_shift`` does, BadModel where
        ``forward_func`` fails or returns another shape.
        """
        if not isinstance(inputs, Tensor) or inputs.ndim != 4:
            raise BadInput("LatentShift attributes one tensor of images [n, c, h, w] in [0, 1].")
        columns = _targets(target, len(inputs))
        outputs = _Outputs(self.forward_func, additional_forward_args, self.link)
        result = torch.full_like(inputs, torch.nan)
        with undisturbed(outputs, self.autoencoder):
            outputs.count_targets(inputs[:1])
            if target is None and len(outputs.targets) > 1:
                raise BadInput(
                    f"Expected a target, one of the {len(outputs.targets)} columns of the outputs, got None."
                )
            for column in sorted(set(columns)):
                rows = torch.tensor([at for at, c in enumerate(columns) if c == column])
                result[rows] = self._attributed(inputs[rows], head(outputs, str(column)), batch).to(result)
        return result

    def _attributed(self, images: Tensor, base: Composition, batch: int) -> Tensor:
        found = latent_shift(images.detach(), base, autoencoder=self.autoencoder, options=self.options, batch=batch)
        walked = torch.tensor([o.walked for o in found.outcomes])[:, None, None, None].to(found.images.device)
        return torch.where(walked, found.reconstructions - found.images, torch.nan)

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

    def __init__(self, forward_func: Callable[..., Tensor], arguments: Any, link: Link) -> None:
        self.forward_func, self.link = forward_func, link
        given = arguments if isinstance(arguments, tuple) else (arguments,)
        self.arguments = () if given == (None,) else given

    @torch.no_grad()
    def count_targets(self, image: Tensor) -> None:
        """Name the heads after the columns of the outputs for one image [1, c, h, w]."""
        self.targets = tuple(str(column) for column in range(self.logits(image.clone()).shape[1]))

    def logits(self, images: Tensor, /) -> Tensor:
        """Images [n, c, h, w] to logits [n, target]. Raises BadModel for outputs of another shape."""
        with user_code(f"forward_func, given images of shape {list(images.shape)},"):
            out = self.forward_func(images, *self.arguments)
        if not isinstance(out, Tensor) or out.ndim not in (1, 2) or len(out) != len(images):
            came = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise BadModel(f"forward_func returned {came} for {len(images)} images; expected [n] or [n, target].")
        out = out[:, None] if out.ndim == 1 else out
        return torch.logit(out.clamp(1e-7, 1 - 1e-7)) if self.link == "probability" else out


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
