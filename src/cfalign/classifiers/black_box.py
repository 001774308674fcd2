"""Any callable from images to probabilities: audited through a bank, with forward passes only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cfalign._errors import BadInput
from cfalign._heads.composition import Composition, head
from cfalign._heads.names import head_names
from cfalign._models.guard import user_code
from cfalign.classifiers.noted import Noted
from cfalign.classifiers.outputs import checked_columns, checked_probabilities
from cfalign.classifiers.tables import as_tensor, classes_of_outputs, columns_of, guessed
from cfalign.classifiers.wrapped_classifier import checked_version, described_classifier

EDGE = 1e-7  # how near a probability may come to 0 and 1, where logits end


class BlackBox(Noted):
    """A callable without gradients. ``black_box`` makes it."""

    differentiable = False
    spec: str | None = None
    """The spec that ``load`` made it from; None where it was made otherwise."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        targets: Sequence[str],
        *,
        name: str = "black_box",
        numpy: bool = False,
        version: str | None = None,
    ) -> None:
        if not callable(function):
            raise _not_callable(function)
        self.function, self.name, self.numpy = function, name, numpy
        self.targets = head_names(targets)
        self._classes = columns_of(function, self.targets)
        self._outputs = classes_of_outputs(function, self.targets)
        self.version = checked_version(version)
        if self._outputs is not None:
            self.note(*guessed(function, self.targets, self._outputs))

    def __repr__(self) -> str:
        function = getattr(self.function, "__name__", type(self.function).__name__)
        return described_classifier(self, function)

    def __getitem__(self, target: str) -> Composition:
        """One head, e.g. ``box["smiling"]``. Raises BadInput for an unknown target."""
        return head(self, target)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to logits [n, target] of the probabilities, clipped to 1e-7 from 0 and 1.

        The callable gets a copy of the images, which it may change. Raises BadModel when it raises an error, gives
        another shape than [n, target] (or [n] for one target), or values outside [0, 1].
        """
        given = images.detach().clone()
        with user_code(f"Classifier {self.name!r}, given images of shape {list(images.shape)},"):
            out = self.function(given.cpu().numpy() if self.numpy else given)
            named: Any = {"classes": self._classes, "outputs": self._outputs}
            answer = as_tensor(out, name=self.name, targets=self.targets, **named)
        p = checked_columns(answer, name=self.name, images=len(images), targets=len(self.targets))
        p = checked_probabilities(p, name=self.name)
        return torch.logit(p.clamp(EDGE, 1 - EDGE)).to(images.device)


def _not_callable(given: object) -> BadInput:
    hint = "; give its predict_proba" if hasattr(type(given), "predict_proba") else ""
    return BadInput(f"Expected a callable from images to probabilities, got {type(given).__name__}{hint}.")


def black_box(
    function: Callable[[Any], Any],
    targets: Sequence[str],
    *,
    name: str = "black_box",
    numpy: bool = False,
    version: str | None = None,
) -> BlackBox:
    """Any callable from images to probabilities as a classifier without gradients.

    It is audited against reference heads or through a bank, with forward passes only, and cannot be a base.

    Args:
        function: Gets float32 images [n, c, h, w] in [0, 1], gives probabilities [n, target]; one target may come
            as [n]. Columns with names (a table, a dict, the ``classes_`` of a scikit-learn estimator whose
            ``predict_proba`` this is) are taken by name, others in the order of ``targets``; of several outputs the
            class called as the target, else the second of two.
        targets: One name per output.
        name: Tells classifiers apart that share a target.
        numpy: Whether the function takes NumPy arrays; otherwise it gets torch tensors.
        version: A text that changes whenever the function does. It stands for the function when runs are resumed;
            without it, its code and everything that it holds are hashed, and what cannot be hashed (a session, an open
            file) is never taken for the same.

    Raises BadInput for any other value of these.

    Example:
        >>> import torch
        >>> import cfalign as cfa
        >>> box = cfa.classifiers.black_box(lambda x: x.mean(axis=(1, 2, 3)), ["bright"], name="mean", numpy=True)
        >>> torch.sigmoid(box.logits(torch.full((2, 3, 8, 8), 0.25)))
        tensor([[0.2500],
                [0.2500]])
    """
    return BlackBox(function, targets, name=name, numpy=numpy, version=version)
