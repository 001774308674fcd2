"""Principal components of images, from bytes, without all of them as floats in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cfalign._errors import BadInput
from cfalign._models.components import Components, principal_components
from cfalign._runs.progress import Progress
from cfalign.training.decoded_images import DecodedImages

_CHUNK = 512
_MOST = 16_384  # images; more change little and cost time


def components_of(pixels: DecodedImages, rows: Tensor, *, count: int, mirrored: bool, progress: Progress) -> Components:
    """The ``count`` strongest components of these images; ``mirrored`` adds every image's mirror image.

    Draws from the global random state. Raises BadInput where there are too few images for so many components.
    """
    values = pixels.values[0].numel()
    enough_images(len(rows), count=count, values=values, mirrored=mirrored)
    rows = rows[torch.randperm(len(rows))[: _MOST // (2 if mirrored else 1)]]

    def parts() -> Iterator[Tensor]:
        for part in rows.split(_CHUNK):
            images = pixels.images(part)
            yield images.flatten(1)
            if mirrored:
                yield images.flip(3).flatten(1)

    vectors = len(rows) * (2 if mirrored else 1)
    return principal_components(parts, vectors=vectors, values=values, count=count, progress=progress)


def enough_images(images: int, *, count: int, values: int, mirrored: bool) -> None:
    """Raise BadInput where images of so many values cannot have ``count`` components."""
    counted = min(images * (2 if mirrored else 1), _MOST)
    if count >= min(counted, values):
        kind = "images and mirror images" if mirrored else "images"
        raise BadInput(
            f"{count} components were asked for, but there are only {counted} {kind} of {values} values to take them "
            f"from; give a latent (and components) below {min(counted, values)}."
        )
