"""Settings of the explanation of one image."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from cfalign._counterfactuals.options import SearchOptions, refuse_idle_descent
from cfalign._models.device import refuse_absent
from cfalign._validation import BitDepth, Count, Device, Share, options, refuse_idle

Difference = Literal["mean", "max", "first-last", "int"]


@options()
class ExplainOptions:
    """How one image is explained."""

    search: SearchOptions = field(default_factory=SearchOptions)
    increase: bool = False
    """Whether a negative prediction is raised by the drop instead of refused; a positive one is lowered all the same.
    """
    size: Count | None = None
    """Side to which an image file is brought; the autoencoder's own by default."""
    bit_depth: BitDepth | None = None
    """Bits that grey values of an image file use, so that 2**bit_depth − 1 is white; by default what the file says."""
    steps: Count = 10
    """Equal steps on the straight line from x0 to the counterfactual: for ``latent-shift`` its ray. x0 is what
    ``search.residual`` makes it, the image itself or its reconstruction."""
    difference: Difference = "mean"
    """Of |x_t − x0| over the frames: their ``mean``, ``max``, or the last alone (``first-last``); ``int``: the sum of
    the changes from frame to frame."""
    min_base_change: Share = 0.3
    """ψ is undefined where the base moved less."""
    saliency: bool = True
    """Whether saliency maps of the base at x0 are made too."""
    regions: str | None = None
    """Where in the image the change of every score lies: ``grid:4`` for four rows of four cells, or a folder of masks,
    white inside. None: nothing is split."""
    batch: Count = 64
    """Images per forward pass."""
    device: Device | None = None
    """Where the models work: cpu, cuda, cuda:1, mps, or auto for the accelerator of this machine; by default where they
    lie."""

    def __post_init__(self) -> None:
        refuse_idle_descent(self)
        refuse_absent(self.device)
        refuse_idle(self, "search.off_drop", needs="an audit: one image is walked to the drop alone")
