"""Settings of a search for unnamed features."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cfalign._validation import Count, Positive, Share, Whole, options

FEWEST = 60
"""Images below which nothing is sought: half of them find, the other half test."""


@options()
class DiscoveryOptions:
    """How features that no reference head names are sought."""

    features: Whole = 0
    """Unnamed features per audited head; 0: none are sought."""
    images: Annotated[int, Field(ge=FEWEST)] = 600
    """Images at most, the first ones in the order of the run: half of them find, the other half test."""
    looks: Count = 64
    """Images of the first half that are walked along every coordinate, two decoder forwards for each."""
    step: Positive = 1.5
    """How far these walks go, in standard deviations."""
    ends: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """A feature is walked from this quantile of the images' own positions along it to the opposite one."""
    controls: Annotated[int, Field(ge=4)] = 16
    """Random directions that are walked too; what they do to a head is its chance."""
    min_effect: Share = 0.1
    """A feature counts as found from this effect on."""
    min_explained: Share = 0.1
    """And from this share of what the known heads leave unexplained of the tested images' logits on."""
    shown: Count = 4
    """Images shown at each end, and walked ones."""
