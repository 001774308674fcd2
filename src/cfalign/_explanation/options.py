"""Settings of the explanation of one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadInput

Difference = Literal["mean", "max", "first-last", "int"]


@dataclass(frozen=True)
class ExplainOptions:
    """How one image is explained."""

    search: SearchOptions = field(default_factory=SearchOptions)
    increase: bool = False
    """Whether a negative prediction is raised by the drop instead of refused; a positive one is lowered all the same.
    """
    size: int | None = None
    """Side to which an image file is brought; the autoencoder's own by default."""
    steps: int = 10
    """Equal steps on the straight line from the reconstruction to the counterfactual: for ``latent-shift`` its ray."""
    difference: Difference = "mean"
    """Of |x_t − x0| over the frames: their ``mean``, ``max``, or the last alone (``first-last``); ``int``: the sum of
    the changes from frame to frame."""
    min_base_change: float = 0.3
    """ψ is undefined where the base moved less."""
    saliency: bool = True
    """Whether saliency maps of the base at x0 are made too."""
    batch: int = 64

    def __post_init__(self) -> None:
        if self.difference not in get_args(Difference):
            raise BadInput(f"difference must be one of {', '.join(get_args(Difference))}, got {self.difference!r}.")
        for name in ("size", "steps", "batch"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1, got {getattr(self, name)!r}.")
        if not 0 <= self.min_base_change <= 1:
            raise BadInput(f"min_base_change must be between 0 and 1, got {self.min_base_change!r}.")
