"""Principal components of images, from bytes, without all of them as floats in memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from cfalign._errors import BadInput
from cfalign._runs.progress import Progress
from cfalign.training.decoded_images import DecodedImages

_CHUNK = 512
_MOST = 16_384  # images; more change little and cost time
_SPARE = 32
_ROUNDS = 1
_PASSES = 3 + 2 * _ROUNDS


def principal_components(
    pixels: DecodedImages, rows: Tensor, *, count: int, mirrored: bool, progress: Progress
) -> tuple[Float[Tensor, " pixel"], Float[Tensor, "pixel component"], Float[Tensor, " component"]]:
    """Mean, ``count`` orthonormal components (the strongest first) and the standard deviation along each.

    Randomised subspace iteration with the global random state; ``mirrored`` adds every image's mirror image.
    Raises BadInput where there are too few images for so many components.
    """
    enough_images(len(rows), count=count, values=pixels.values[0].numel(), mirrored=mirrored)
    rows = rows[torch.randperm(len(rows))[: _MOST // (2 if mirrored else 1)]]
    images = len(rows) * (2 if mirrored else 1)
    matrix = _Centred(pixels, rows, mirrored=mirrored, progress=progress)
    width = min(count + _SPARE, images, len(matrix.mean))
    basis = _orthonormal(matrix.times(torch.randn(len(matrix.mean), width)))
    for _ in range(_ROUNDS):
        basis = _orthonormal(matrix.times(_orthonormal(matrix.transposed_times(basis))))
    left, strength, _ = torch.linalg.svd(matrix.transposed_times(basis), full_matrices=False)
    return matrix.mean, left[:, :count].contiguous(), strength[:count] / images**0.5


def enough_images(images: int, *, count: int, values: int, mirrored: bool) -> None:
    """Raise BadInput where images of so many values cannot have ``count`` components."""
    counted = min(images * (2 if mirrored else 1), _MOST)
    if count >= min(counted, values):
        kind = "images and mirror images" if mirrored else "images"
        raise BadInput(
            f"latent is {count}, but there are only {counted} {kind} of {values} values to take principal components "
            f"from; give a latent below {min(counted, values)}."
        )


class _Centred:
    """The matrix of images [image, pixel] less their mean, in passes over the bytes."""

    def __init__(self, pixels: DecodedImages, rows: Tensor, *, mirrored: bool, progress: Progress) -> None:
        self.pixels, self.rows, self.mirrored, self.progress = pixels, rows, mirrored, progress
        self.mean = torch.zeros(pixels.values[0].numel())
        self.passes = 0
        progress("components", 0, _PASSES)
        self.mean = torch.stack([chunk.mean(0) * len(chunk) for chunk in self._chunks()]).sum(0) / self._images
        self._passed()

    def times(self, right: Tensor) -> Tensor:
        """[image, k] for [pixel, k]."""
        product = torch.cat([chunk @ right for chunk in self._chunks()])
        self._passed()
        return product

    def transposed_times(self, right: Tensor) -> Tensor:
        """[pixel, k] for [image, k]."""
        product, start = torch.zeros(len(self.mean), right.shape[1]), 0
        for chunk in self._chunks():
            product.addmm_(chunk.T, right[start : start + len(chunk)])
            start += len(chunk)
        self._passed()
        return product

    @property
    def _images(self) -> int:
        return len(self.rows) * (2 if self.mirrored else 1)

    def _passed(self) -> None:
        self.passes += 1
        self.progress("components", self.passes, _PASSES)

    def _chunks(self) -> Iterator[Tensor]:
        for part in self.rows.split(_CHUNK):
            images = self.pixels.images(part)
            yield images.flatten(1) - self.mean
            if self.mirrored:
                yield images.flip(3).flatten(1) - self.mean


def _orthonormal(columns: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(columns).Q
    return basis
