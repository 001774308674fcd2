"""Small random changes of training images, from the global random state."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from cfalign._types import Images
from cfalign.training.options import ClassifierTraining

_BLURRED = (0.35, 0.85)  # sides, of 1, that blurred images are reduced to


def augmented(images: Images, options: ClassifierTraining) -> Images:
    """Every change that the options ask for; values in [0, 1]."""
    if options.horizontal_flip:
        images = mirrored(images)
    if options.zoom or options.rotation or options.shift:
        images = moved(images, zoom=options.zoom, degrees=options.rotation, shift=options.shift)
    if options.contrast or options.brightness:
        images = recoloured(images, contrast=options.contrast, brightness=options.brightness)
    if options.blur and float(torch.rand(())) < options.blur:
        images = blurred(images)
    if options.pixel_noise:
        images = images + _draw(torch.randn(images.shape), images) * _uniform(images) * options.pixel_noise
    return images.clamp(0, 1)


def mirrored(images: Images) -> Images:
    """Half of the images mirrored left to right."""
    flip = _draw(torch.rand(len(images), 1, 1, 1) < 0.5, images)
    return torch.where(flip, images.flip(3), images)


def moved(images: Images, *, zoom: float, degrees: float, shift: float) -> Images:
    """Scaled, turned and shifted by random amounts up to these; the border is mirrored into what comes free."""
    count = len(images)
    scale = 1 + zoom * _both_ways(count)
    angle = math.radians(degrees) * _both_ways(count)
    matrix = torch.stack([scale * angle.cos(), -scale * angle.sin(), scale * angle.sin(), scale * angle.cos()], 1)
    offset = 2 * shift * _both_ways(2 * count).view(count, 2, 1)  # the grid is 2 wide
    grid = functional.affine_grid(
        _draw(torch.cat([matrix.view(count, 2, 2), offset], 2), images), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def recoloured(images: Images, *, contrast: float, brightness: float) -> Images:
    """Stretched around their mean, and brightened or darkened; may leave [0, 1]."""
    mean = images.mean((1, 2, 3), keepdim=True)
    stretch, offset = (_draw(_both_ways(len(images)).view(-1, 1, 1, 1), images) for _ in range(2))
    return (images - mean) * (1 + contrast * stretch) + mean + brightness * offset


def blurred(images: Images) -> Images:
    """Half of the images reduced to a random smaller side and enlarged again."""
    low, high = _BLURRED
    side = max(2, round(images.shape[-1] * (low + (high - low) * float(torch.rand(())))))
    small = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
    soft = functional.interpolate(small, images.shape[2:], mode="bilinear")
    return torch.where(_draw(torch.rand(len(images), 1, 1, 1) < 0.5, images), soft, images)


def _both_ways(count: int) -> Tensor:
    return 2 * torch.rand(count) - 1


def _uniform(images: Tensor) -> Tensor:
    return _draw(torch.rand(len(images), 1, 1, 1), images)


def _draw(values: Tensor, images: Tensor) -> Tensor:
    """Drawn on the CPU, whose random state checkpoints keep, and brought to the images."""
    return values.to(images.device)
