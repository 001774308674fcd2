"""How classifiers respond to images: one call of a module yields all of its heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cfalign._errors import BadModel
from cfalign._types import Classifier


def logits(images: Tensor, classifiers: Sequence[Classifier]) -> Tensor:
    """Logits of all heads of all classifiers, in order.

    Images [n, c, h, w] in [0, 1] → [n, head] on the images' device; gradients flow where the classifiers let them.
    Raises BadModel when a classifier returns another shape than [n, number of targets].
    """
    columns = []
    for classifier in classifiers:
        out = classifier.logits(images)
        expected = (images.shape[0], len(classifier.targets))
        if tuple(out.shape) != expected:
            raise BadModel(
                f"Classifier {classifier.name!r} returned logits of shape {tuple(out.shape)} for images of shape "
                f"{tuple(images.shape)}; expected {expected}: one column per target."
            )
        columns.append(out.to(images.device))
    return torch.cat(columns, dim=1)


@torch.no_grad()
def respond(images: Tensor, classifiers: Sequence[Classifier], *, batch: int = 64) -> Tensor:
    """``logits`` in batches, without gradients."""
    if not len(images):
        return images.new_zeros((0, sum(len(c.targets) for c in classifiers)))
    return torch.cat([logits(part, classifiers) for part in images.split(batch)])
