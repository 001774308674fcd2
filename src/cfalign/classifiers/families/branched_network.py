"""The branched network of the paper's face attributes: 40 heads that share layers in a tree.

Vandenhende et al., "Branched Multi-Task Networks: Deciding What Layers To Share" (BMVC 2020), in the tiny form whose
weights the authors of counterfactual alignment publish. Names and shapes of its parameters are those of that file.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SIZE = 224
MEAN, STD = (0.5061, 0.4254, 0.3828), (0.2661, 0.2453, 0.2413)  # of aligned CelebA
ATTRIBUTES = (
    *("blurry", "sideburns", "wearing_earrings", "bald", "goatee", "mustache", "5_o_clock_shadow"),
    *("arched_eyebrows", "no_beard", "heavy_makeup", "male", "wearing_lipstick", "black_hair", "high_cheekbones"),
    *("smiling", "mouth_slightly_open", "oval_face", "bushy_eyebrows", "attractive", "young", "gray_hair"),
    *("brown_hair", "blond_hair", "pale_skin", "chubby", "double_chin", "big_nose", "bags_under_eyes"),
    *("wearing_necklace", "wearing_necktie", "rosy_cheeks", "bangs", "wavy_hair", "straight_hair", "wearing_hat"),
    *("big_lips", "narrow_eyes", "pointy_nose", "receding_hairline", "eyeglasses"),
)
"""In the order of the heads."""

# How many branches of the next level grow from each branch of a level, in order: from 2 to 3, 10, 18, 33, 40.
TWELVE = (2, 1)
THIRTEEN = (4, 5, 1)
FOURTEEN = (1, 3, 2, 1, 3, 2, 3, 1, 1, 1)
FIFTEEN = (1, 1, 2, 4, 2, 1, 1, 3, 2, 3, 2, 3, 1, 2, 1, 1, 2, 1)
SIXTEEN = (1, 2, 2, 1, 1, 1, 1, 3, 3, *(1,) * 20, 2, 1, 1, 1)


class BranchedNetwork(nn.Module):
    """Images [n, 3, 224, 224] in [0, 1] → logits [n, 40]. ``width`` of the published weights: 64."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.celeba_aligned_means = nn.Parameter(torch.tensor(MEAN), requires_grad=False)
        self.celeba_aligned_stds = nn.Parameter(torch.tensor(STD), requires_grad=False)
        flat = width * (SIZE // 32) ** 2
        self.to_layer_6 = _convolutions("ccpccpcc", 3, width)
        self.from_6_to_11 = nn.ModuleList(_convolutions("cpcccpc", width, width) for _ in TWELVE)
        self.layers12 = nn.ModuleList(_convolutions("c", width, width) for _ in THIRTEEN)
        self.layers13 = nn.ModuleList(_convolutions("cp", width, width) for _ in FOURTEEN)
        self.layers14 = nn.ModuleList(_dense(flat, 2 * width) for _ in FIFTEEN)
        self.layers15 = nn.ModuleList(_dense(2 * width, 2 * width) for _ in SIXTEEN)
        self.layers16 = nn.ModuleList(nn.Sequential(nn.Linear(2 * width, 1)) for _ in ATTRIBUTES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, in the order of ``ATTRIBUTES``."""
        mean, std = (p.view(1, -1, 1, 1) for p in (self.celeba_aligned_means, self.celeba_aligned_stds))
        branches = _grown([self.to_layer_6((images - mean) / std)], (len(TWELVE),), self.from_6_to_11)
        branches = _grown(branches, TWELVE, self.layers12)
        branches = _grown(branches, THIRTEEN, self.layers13)
        branches = _grown([b.flatten(1) for b in branches], FOURTEEN, self.layers14)
        branches = _grown(branches, FIFTEEN, self.layers15)
        return torch.cat(_grown(branches, SIXTEEN, self.layers16), dim=1)


def _grown(branches: Sequence[Tensor], counts: Sequence[int], layers: nn.ModuleList) -> list[Tensor]:
    """The next level: from every branch as many layers as it has children."""
    parents = [branch for branch, count in zip(branches, counts, strict=True) for _ in range(count)]
    return [layer(parent) for layer, parent in zip(layers, parents, strict=True)]


def _convolutions(plan: str, channels: int, width: int) -> nn.Sequential:
    """``c``: 3×3 convolution, ReLU, normalisation; ``p``: the larger of 2×2."""
    layers: list[nn.Module] = []
    for step in plan:
        if step == "p":
            layers.append(nn.MaxPool2d(2))
            continue
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width)]
        channels = width
    return nn.Sequential(*layers)


def _dense(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.BatchNorm1d(outputs))
