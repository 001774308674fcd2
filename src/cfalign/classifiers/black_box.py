"""Any callable from images to probabilities: audited through a bank, with forward passes only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import Composition, head
from cfalign._models.guard import user_code
from cfalign.classifiers.wrapped import checked_columns, checked_targets


class BlackBox:
    """A callable without gradients. It gets float32 images [n, c, h, w] in [0, 1] as a torch tensor, or as NumPy when
    ``numpy`` is set, and gives probabilities [n, target] or [n].
    """

    differentiable = False
    spec: str | None = None
    """What ``load`` made it from."""
    digest: str | None = None
    """Hash of the file or the description that it was made from."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        targets: Sequence[str],
        *,
        name: str = "black_box",
        numpy: bool = False,
    ) -> None:
        if not callable(function):
            raise BadInput(f"Expected a callable from images to probabilities, got {type(function).__name__}.")
        self.function, self.name, self.numpy = function, name, numpy
        self.targets = checked_targets(targets)

    def __getitem__(self, target: str) -> Composition:
        """One head."""
        return head(self, target)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits of the probabilities, clipped to 1e-7 from 0 and 1.

        BadModel for another shape than [n, target] (or [n] for one target) and for values outside [0, 1].
        """
        with user_code(f"Classifier {self.name!r}, given images of shape {list(images.shape)},"):
            out = self.function(images.detach().cpu().numpy() if self.numpy else images.detach())
            p = out.detach() if isinstance(out, Tensor) else torch.from_numpy(np.array(out, dtype=np.float32))
        p = checked_columns(p.float(), name=self.name, images=len(images), targets=len(self.targets))
        finite = p[torch.isfinite(p)]
        if finite.numel() and (finite.min() < -1e-4 or finite.max() > 1 + 1e-4):
            raise BadModel(
                f"Classifier {self.name!r} returned values between {finite.min():.3g} and {finite.max():.3g}; expected "
                "probabilities in [0, 1]: apply its sigmoid or softmax first."
            )
        return torch.logit(p.clamp(1e-7, 1 - 1e-7)).to(images.device)


def black_box(
    function: Callable[[Any], Any], targets: Sequence[str], *, name: str = "black_box", numpy: bool = False
) -> BlackBox:
    """A callable from images [n, c, h, w] in [0, 1] to probabilities [n, target] as a classifier without gradients."""
    return BlackBox(function, targets, name=name, numpy=numpy)
