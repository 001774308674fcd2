"""How classifiers respond to images: one call of a module yields all of its heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cfalign._errors import BadModel
from cfalign._models.guard import user_code
from cfalign._models.passes import in_passes
from cfalign._types import Classifier


def logits(images: Tensor, classifiers: Sequence[Classifier]) -> Tensor:
    """Logits of all heads of all classifiers, in order.

    Images [n, c, h, w] in [0, 1] → [n, head] on the images' device; gradients flow where the classifiers let them.
    Every classifier gets a copy of its own, so that what one does to its input is not seen by the next. Raises BadModel
    when a classifier returns another shape than [n, number of targets].
    """
    columns = []
    for classifier in classifiers:
        with user_code(f"Classifier {classifier.name!r}, given images of shape {list(images.shape)},"):
            out = classifier.logits(images.clone(memory_format=torch.contiguous_format))
        expected = (len(images), len(classifier.targets))
        found = in_columns(out, images=expected[0], targets=expected[1]) if isinstance(out, Tensor) else None
        if found is None:
            came = f"logits of shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise BadModel(
                f"Classifier {classifier.name!r} returned {came} for images of shape {tuple(images.shape)}; expected "
                f"{expected}: one column per target."
            )
        columns.append(found.to(images.device))
    return torch.cat(columns, dim=1)


def in_columns(out: Tensor, *, images: int, targets: int) -> Tensor | None:
    """A model's answer as [image, target]; None where its shape says something else.

    One target may come as [image], one image as [target], and one target of one image as []: models that end in
    ``squeeze()`` answer so. Models that end in a convolution answer [image, target, 1, 1].
    """
    if tuple(out.shape) == (images, targets):
        return out
    squeezed = 1 in (images, targets) and out.ndim < 2 and out.numel() == images * targets
    pooled = tuple(out.shape) == (images, targets, 1, 1)
    return out.reshape(images, targets) if squeezed or pooled else None


@torch.no_grad()
def respond(images: Tensor, classifiers: Sequence[Classifier], *, batch: int = 64) -> Tensor:
    """``logits`` in batches, without gradients; smaller ones where memory does not hold them. Raises BadModel where it
    does not hold one image.
    """
    if not len(images):
        return images.new_zeros((0, sum(len(c.targets) for c in classifiers)))
    return torch.cat(in_passes(lambda rows: logits(images[rows], classifiers), len(images), most=batch))
