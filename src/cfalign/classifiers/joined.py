"""Several classifiers as one: the heads of all of them, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cfalign._errors import BadInput
from cfalign._heads.composition import Composition, head
from cfalign._heads.scoring import logits
from cfalign._types import Classifier
from cfalign.classifiers.wrapped_classifier import described_classifier


class JoinedClassifier:
    """The heads of several classifiers, in their order; such as trusted heads, and a head of a feature that was named.

    It is differentiable where every member is. Raises BadInput for no member, and for two heads of one name.

    >>> planted = [cfa.classifiers.load(f"embedded:{name}") for name in cfa.classifiers.planted()[:3:2]]
    >>> cfa.classifiers.JoinedClassifier(planted, name="both").targets
    ('bags_under_eyes', 'big_lips')
    """

    spec: str | None = None
    """None: no single spec names it."""

    def __init__(self, members: Sequence[Classifier], *, name: str | None = None) -> None:
        if not members:
            raise BadInput("Expected at least one classifier to join.")
        self.members = list(members)
        owners: dict[str, Classifier] = {}
        for member in self.members:
            for target in member.targets:
                if target in owners:
                    raise BadInput(
                        f"Both {owners[target].name!r} and {member.name!r} have a head {target!r}; expected each "
                        "attribute once."
                    )
                owners[target] = member
        self.targets = tuple(owners)
        self.name = name or " + ".join(member.name for member in self.members)

    def __repr__(self) -> str:
        return described_classifier(self, f"{len(self.members)} classifiers")

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow through all of its members."""
        return all(member.differentiable for member in self.members)

    def __getitem__(self, target: str) -> Composition:
        """One head."""
        return head(self, target)

    def logits(self, images: Tensor, /) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to logits [n, target]."""
        return torch.cat([logits(images, [member]) for member in self.members], dim=1)
