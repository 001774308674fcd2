"""The multi-head attribute classifier that cfalign trains: strided convolutions and one linear layer for all heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from cfalign.errors import BadInput


class AttributeNetwork(nn.Module):
    """Images [n, channels, size, size] in [0, 1] → logits [n, target], one pass for all heads."""

    def __init__(
        self,
        targets: Sequence[str],
        *,
        size: int = 64,
        channels: int = 3,
        widths: Sequence[int] = (16, 32, 64, 96),
        hidden: int = 128,
    ) -> None:
        super().__init__()
        side = size // 2 ** len(widths)
        if side * 2 ** len(widths) != size or side < 1:
            raise BadInput(
                f"A classifier with {len(widths)} halvings needs a multiple of {2 ** len(widths)}, got {size}."
            )
        self.config: dict[str, Any] = {
            "kind": "classifier", "targets": list(targets), "size": size, "channels": channels,
            "widths": list(widths), "hidden": hidden,
        }  # fmt: skip
        layers: list[nn.Module] = []
        for before, after in zip((channels, *widths[:-1]), widths, strict=True):
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.SiLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(widths[-1] * side * side, hidden, bias=False), nn.BatchNorm1d(hidden), nn.SiLU(),
            nn.Linear(hidden, len(targets)),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.features(images * 2 - 1))  # type: ignore[no-any-return]


def build(config: dict[str, Any]) -> AttributeNetwork:
    """The network that a weight file describes."""
    names = ("targets", "size", "channels", "widths", "hidden")
    return AttributeNetwork(**{k: v for k, v in config.items() if k in names})
