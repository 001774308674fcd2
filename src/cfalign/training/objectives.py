"""Objectives of a classifier's training: the mean loss, or one that weighs groups or environments of images.

An objective turns the losses of a batch's images into the one number that is minimised. Its buffers are its memory, and
checkpoints hold them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn


class Objective(nn.Module, ABC):
    """From the losses of a batch's images, and the images' positions in the source, to one loss."""

    @abstractmethod
    def forward(self, losses: Float[Tensor, " image"], positions: Int64[Tensor, " image"]) -> Float[Tensor, ""]:
        """The loss. ``losses``: each image's mean over its known labels."""

    def of_labels(
        self,
        losses: Float[Tensor, "image label"],
        known: Bool[Tensor, "image label"],
        positions: Int64[Tensor, " image"],
    ) -> Float[Tensor, ""]:
        """The loss from those of single labels; unknown labels do not count."""
        loss: Tensor = self((losses * known).sum(1) / known.sum(1).clamp_min(1), positions)
        return loss


@final
class Weighted(Objective):
    """Σ w·loss / Σ w: with equal weights the plain mean (ERM)."""

    weights: Tensor

    def __init__(self, weights: Float[Tensor, " image"]) -> None:
        """``weights``: one of every image of the source, ≥ 0."""
        super().__init__()
        self.register_buffer("weights", weights.clone())

    def forward(self, losses: Float[Tensor, " image"], positions: Int64[Tensor, " image"]) -> Float[Tensor, ""]:
        """Weighted mean; 0 where no image of the batch has a weight."""
        weights = self.weights[positions]
        return (losses * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)


@final
class BalancedLabels(Objective):
    """Mean over images of the mean over labels, where an image has another weight for every label."""

    weights: Tensor

    def __init__(self, weights: Float[Tensor, "image label"]) -> None:
        """``weights``: of every image of the source for every label that is learnt, in their order, ≥ 0."""
        super().__init__()
        self.register_buffer("weights", weights.clone())

    def forward(self, losses: Float[Tensor, " image"], positions: Int64[Tensor, " image"]) -> Float[Tensor, ""]:
        """The plain mean: the weights belong to labels, not images."""
        return losses.mean()

    def of_labels(
        self,
        losses: Float[Tensor, "image label"],
        known: Bool[Tensor, "image label"],
        positions: Int64[Tensor, " image"],
    ) -> Float[Tensor, ""]:
        """Weighted; not divided by the batch's weights, which differ between labels."""
        return super().of_labels(losses * self.weights[positions], known, positions)


@final
class GroupDRO(Objective):
    """Σ q_g · loss_g, where the groups' weights q follow their losses: q_g ← q_g · exp(step · loss_g), sum 1.

    Sagawa et al. 2020, algorithm 1; loss_g is the mean over the group's images in the batch, and a group that has none
    in it keeps its weight (before all are scaled to sum 1) and adds nothing. Groups without any image weigh nothing.
    """

    groups: Tensor
    share: Tensor

    def __init__(self, groups: Int64[Tensor, " image"], *, step: float) -> None:
        """``groups``: the group, from 0, of every image of the source; ``step``: η of the paper."""
        super().__init__()
        self.step = step
        self.register_buffer("groups", groups.clone())
        there = (torch.bincount(groups) > 0).float()
        self.register_buffer("share", there / there.sum())

    def forward(self, losses: Float[Tensor, " image"], positions: Int64[Tensor, " image"]) -> Float[Tensor, ""]:
        """The weighted loss, under weights that have just moved."""
        means, _ = means_within(losses, self.groups[positions], len(self.share))
        with torch.no_grad():
            moved = self.share * torch.exp(self.step * means)
            self.share.copy_(moved / moved.sum())
        return (self.share * means).sum()


@final
class VREx(Objective):
    """Mean of the environments' losses + penalty · their variance (Krueger et al. 2021, V-REx)."""

    environments: Tensor

    def __init__(self, environments: Int64[Tensor, " image"], *, penalty: float) -> None:
        """``environments``: that of every image of the source, from 0; ``penalty``: β of the paper."""
        super().__init__()
        self.penalty = penalty
        self.count = int(environments.max()) + 1
        self.register_buffer("environments", environments.clone())

    def forward(self, losses: Float[Tensor, " image"], positions: Int64[Tensor, " image"]) -> Float[Tensor, ""]:
        """Over the environments that have an image in the batch."""
        means, there = means_within(losses, self.environments[positions], self.count)
        return means[there].mean() + self.penalty * means[there].var(correction=0)


def means_within(losses: Tensor, groups: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean loss of each of ``count`` groups, 0 where none is of it, and which groups have any."""
    member = torch.nn.functional.one_hot(groups, count).to(losses.dtype)
    sizes = member.sum(0)
    return (losses @ member) / sizes.clamp_min(1), sizes > 0
