"""Where in one image the changes of scores lie: its counterfactual split by regions."""

from __future__ import annotations

from torch import Tensor

from cfalign._errors import BadInput
from cfalign._explanation.explained import ExplainedRegions
from cfalign._heads.panel import Panel
from cfalign._regions.masks import regions_of
from cfalign._regions.split import region_scores
from cfalign._results import Floats


def masks_of(spec: str, name: str, image: Tensor) -> tuple[tuple[str, ...], Tensor]:
    """The names of the regions, and their masks for one image [1, c, h, w] of this name, [region, h, w].

    Raises BadInput for regions that cannot be read, and where one has no mask for the image.
    """
    regions = regions_of(spec)
    masks = regions.masks([name], *image.shape[-2:])[0]
    lacking = [region for region, mask in zip(regions.names, masks, strict=True) if mask.isnan().any()]
    if lacking:
        raise BadInput(
            f"--regions: {lacking[0]!r} has no mask for {name}; expected a file called as the image is in the folder "
            f"{spec}/{lacking[0]}, or one mask for all images, {spec}/NAME.png."
        )
    return regions.names, masks


def split_walk(
    frames: Tensor, scores: Floats, names: tuple[str, ...], masks: Tensor, *, panel: Panel, batch: int
) -> ExplainedRegions:
    """The change from the first to the last of frames [step, c, h, w] with panel scores [step, head], split."""
    found = region_scores(frames[:1], frames[-1:], masks[None], panel, batch=batch)
    start, whole = scores[0], scores[-1] - scores[0]
    inside = (found.inside[0] - start).T
    lost = (whole - (found.rest[0] - start)).T
    return ExplainedRegions(names, masks.cpu(), whole, inside, lost)
