"""A composition of heads as a classifier with one head of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from cfalign._heads.composition import Composition, head
from cfalign._heads.scoring import logits
from cfalign.classifiers.wrapped_classifier import described_classifier

EDGE = 1e-6  # how near a sum of probabilities may come to 0 and 1, where logits end


class ComposedClassifier:
    """A composition as a classifier with one target, whose probability is the composition's score.

    It is differentiable where every classifier in it is. A sum of probabilities Σ cᵢ·pᵢ + constant is clipped to
    [1e-6, 1 − 1e-6], because only there a logit exists; its gradient is zero where it was clipped. One head, ``1 -
    head`` and sums of logits keep their exact logit.

    >>> clf = cfa.classifiers.load("embedded")
    >>> both = cfa.classifiers.ComposedClassifier(0.5 * clf["smiling"] + 0.5 * clf["young"], name="both")
    >>> both.targets, both["both"]
    (('both',), Composition('both', classifier='both'))
    """

    spec: str | None = None
    """The spec that ``load`` made it from; None where it was made otherwise."""

    def __init__(self, composition: Composition, *, name: str) -> None:
        self.composition, self.name, self.targets = composition, name, (name,)
        self.members = list(composition.classifiers)

    def __repr__(self) -> str:
        return described_classifier(self, repr(self.composition))

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow through all of its members."""
        return all(c.differentiable for c in self.members)

    def __getitem__(self, target: str) -> Composition:
        """The one head."""
        return head(self, target)

    def logits(self, images: Tensor, /) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to logits [n, 1]."""
        known = {member: logits(images, [member]) for member in self.members}
        exact = self.composition.sum_of_logits
        if exact is None:
            return torch.logit(self.composition.score(known).clamp(EDGE, 1 - EDGE))[:, None]
        columns = [c * known[h.classifier][:, h.index] for c, h in exact.terms]
        return (torch.stack(columns).sum(dim=0) + exact.constant)[:, None]
