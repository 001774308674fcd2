"""Options of the benchmark: how many images, which bases, how many rounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cfalign._errors import BadInput
from cfalign._validation import Count, Whole, options

BASES = (
    *("bangs", "big_lips", "big_nose", "bushy_eyebrows", "chubby", "eyeglasses", "heavy_makeup"),
    *("male", "mouth_slightly_open", "pale_skin", "smiling", "wearing_lipstick", "young"),
)
"""Heads that get counterfactuals by default."""


@options()
class SpeedOptions:
    """Size of the benchmark."""

    images: Annotated[int, Field(ge=2, le=200)] = 128
    """Drawn faces; an audit takes at most 200 per base."""
    bases: tuple[str, ...] = BASES
    """Embedded heads that get counterfactuals."""
    rounds: Count = 3
    """How often every contestant is timed, one after the other in each round."""
    authors_pairs: Count = 40
    """(image, base) pairs per round that the authors' package gets at most; other ones in every round."""
    seed: Whole = 0
    large: bool = False
    """Whether the networks of the paper's size are measured too, with random weights."""

    def __post_init__(self) -> None:
        if not self.bases:
            raise BadInput("bases: expected at least one head, got none.")
        if twice := next((b for i, b in enumerate(self.bases) if b in self.bases[:i]), None):
            raise BadInput(f"bases: expected every head once, got {twice!r} twice.")
