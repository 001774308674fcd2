"""The multi-head attribute classifier that cfalign trains: strided convolutions, then all heads at once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from cfalign._errors import BadInput


class AttributeNetwork(nn.Module):
    """Images [n, channels, size, size] in [0, 1] → logits [n, target], one pass for all heads.

    ``widths``: channels after every halving of the side. ``residual`` adds a residual block after every halving but
    the first. ``hidden``: width of the layer before the heads, 0 for none. ``dropout``: share of the heads' inputs that
    is dropped in training. Raises BadInput where ``size`` cannot be halved so often.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        size: int = 64,
        channels: int = 3,
        widths: Sequence[int] = (16, 32, 64, 96),
        hidden: int = 128,
        residual: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        side = size // 2 ** len(widths)
        if side * 2 ** len(widths) != size or side < 1:
            raise BadInput(
                f"A classifier with {len(widths)} halvings needs a size that is a multiple of {2 ** len(widths)}, got "
                f"{size}."
            )
        self.config: dict[str, Any] = {
            "kind": "classifier",
            "targets": list(targets),
            "size": size,
            "channels": channels,
            "widths": list(widths),
            "hidden": hidden,
            "residual": residual,
            "dropout": dropout,
        }
        self.features = _halvings((channels, *widths), residual=residual)
        read = widths[-1] * side * side
        between = [nn.Linear(read, hidden, bias=False), nn.BatchNorm1d(hidden), nn.SiLU()] if hidden else []
        drop = [nn.Dropout(dropout)] if dropout else []
        self.head = nn.Sequential(nn.Flatten(), *between, *drop, nn.Linear(hidden or read, len(targets)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.features(images * 2 - 1))  # type: ignore[no-any-return]


def _halvings(widths: Sequence[int], *, residual: bool) -> nn.Sequential:
    """A strided convolution from each width to the next."""
    layers: list[nn.Module] = []
    kernel = 3 if residual else 4
    for at, (before, after) in enumerate(pairwise(widths)):
        layers += [
            nn.Conv2d(before, after, kernel, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.SiLU(),
        ]
        if residual and at:
            layers.append(Residual(after))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """x + two 3×3 convolutions of it, at the same size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return functional.silu(x + self.inner(x))


def build(config: dict[str, Any]) -> AttributeNetwork:
    """The network that a weight file describes."""
    names = ("targets", "size", "channels", "widths", "hidden", "residual", "dropout")
    return AttributeNetwork(**{k: v for k, v in config.items() if k in names})
