"""Settings of regions."""

from __future__ import annotations

from cfalign._validation import Count, options


@options()
class RegionOptions:
    """In which regions of the image the effects of attributes are looked for."""

    spec: str | None = None
    """``grid:4`` for four rows of four cells, or a folder of masks, white inside: NAME.png for all images, or a folder
    NAME with one mask per image, called as the image is. None: effects are not split."""
    images: Count = 24
    """Counterfactuals of each attribute that are split, at most."""
