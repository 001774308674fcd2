"""What can be chosen about a training, checked when it is chosen."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from cfalign._errors import BadInput
from cfalign._validation import Count, NotNegative, Positive, Share, ShareBelowOne, Whole, options, refuse_idle
from cfalign.training.principal_components import enough_images

_NOT_PART_OF_THE_RESULT = ("device", "checkpoint_every")
_OF_STEPS = (
    "epochs",
    "steps",
    "batch",
    "learning_rate",
    "warmup",
    "weight_decay",
    "average",
    "checkpoint_every",
)
"""Fields that only a training in steps reads."""
_Widths = Annotated[tuple[Count, ...], Field(min_length=1)]


@options(kw_only=True)
class Training:
    """What both trainings share. Any value that cannot work is BadInput."""

    size: Count = 64
    """Side of the square images, in pixels: a multiple of 2 to the number of widths."""
    epochs: Positive = 20.0
    """How often every training image is seen."""
    steps: Count | None = None
    """Number of batches; where given, instead of ``epochs``."""
    batch: Annotated[int, Field(ge=2)] = 32
    """Images per step."""
    learning_rate: Positive = 3e-3
    """At its highest: it rises over the first ``warmup`` of the steps and falls to 0 along a cosine."""
    warmup: ShareBelowOne = 0.02
    """Share of the steps, in [0, 1)."""
    weight_decay: NotNegative = 1e-3
    """Of weights; never of biases and normalisation."""
    average: ShareBelowOne = 0.998
    """The weights kept are a moving average with this decay, in [0, 1); 0 keeps those of the last step."""
    horizontal_flip: bool = True
    """Mirror half of the training images. Turn it off where left and right differ, as in chest X-rays or text."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the images kept for the measurement, in (0, 1), where no table says which."""
    seed: Whole = 0
    """Seed of every random draw."""
    device: str = "cpu"
    """Where it is trained, as PyTorch names devices."""
    checkpoint_every: NotNegative = 30.0
    """Seconds; less often where writing takes long."""

    def __post_init__(self) -> None:
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # torch answers with either, by kind of device
            reason = str(error).splitlines()[0].rstrip(".")
            raise BadInput(f"device: expected one that PyTorch can use, got {self.device!r}: {reason}.") from error

    def total_steps(self, images: int) -> int:
        """Number of batches for so many training images."""
        if self.batch > images:
            raise BadInput(f"batch is {self.batch}, but there are only {images} training images; give a smaller batch.")
        return self.steps if self.steps is not None else max(1, round(self.epochs * (images // self.batch)))

    def require_enough(self, images: int) -> None:
        """BadInput where so many training images are too few for these choices."""
        self.total_steps(images)

    def identity(self) -> dict[str, Any]:
        """The choices that the result depends on."""
        return {k: v for k, v in asdict(self).items() if k not in _NOT_PART_OF_THE_RESULT}


@options(kw_only=True)
class AutoencoderTraining(Training):
    """How to make an autoencoder with one vector as latent: from principal components, or by training convolutions.

    Steps, rates, decay, average and checkpoints belong to ``convolutional``; components take no steps, and begin anew
    where they were interrupted.
    """

    architecture: Literal["components", "convolutional"] = "components"
    """``components`` needs no steps and reconstructs sharper; ``convolutional`` can remove objects. The README of
    ``cfalign/autoencoders`` compares them.
    """
    latent: Count | None = None
    """Length of the latent vector; by default 512 components (an eighth of the training images where that is less), or
    256 of ``convolutional``.
    """
    whiten_from: Whole = 30
    """The strongest components, so many, are divided by the deviation of the next instead of their own, so that
    brightness does not drift; 0 whitens all (``components``).
    """
    encoder: _Widths = (32, 64, 128)
    """Channels after each halving (``convolutional``)."""
    decoder: _Widths = (128, 64, 32)
    """Channels before each doubling (``convolutional``)."""
    noise: NotNegative = 0.1
    """Standard deviation of the noise on the latent while training; the latent has 1 (``convolutional``)."""
    epochs: Positive = 40.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture == "components":
            refuse_idle(self, *_OF_STEPS, "encoder", "decoder", "noise", needs="architecture='convolutional'")
        else:
            refuse_idle(self, "whiten_from", needs="architecture='components'")

    def total_steps(self, images: int) -> int:
        """Number of batches for so many training images: none for components."""
        return super().total_steps(images) if self.architecture == "convolutional" else 0

    def require_enough(self, images: int) -> None:
        """BadInput where so many training images are too few for these choices."""
        super().require_enough(images)
        if self.architecture == "components":
            count, values = self.latent_length(images), 3 * self.size**2
            enough_images(images, count=count, values=values, mirrored=self.horizontal_flip)

    def latent_length(self, images: int) -> int:
        """The latent length for so many training images."""
        if self.latent is not None:
            return self.latent
        return max(1, min(512, images // 8, 3 * self.size**2 - 1)) if self.architecture == "components" else 256


@options(kw_only=True)
class ClassifierTraining(Training):
    """How to train a classifier with one head per attribute."""

    targets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Which attributes of the table; None takes every one that has both values among the training images."""
    widths: _Widths = (32, 64, 128, 192)
    """Channels after each halving."""
    hidden: Whole = 0
    """Width of a layer before the heads; 0 for none."""
    residual: bool = True
    """A residual block after every halving but the first."""
    dropout: ShareBelowOne = 0.3
    """Share of what the heads read that is dropped while training, in [0, 1)."""
    epochs: Positive = 12.0
    batch: Annotated[int, Field(ge=2)] = 64
    learning_rate: Positive = 2e-3
    warmup: ShareBelowOne = 0.1
    weight_decay: NotNegative = 0.05
    average: ShareBelowOne = 0.995
    label_smoothing: ShareBelowOne = 0.0
    """Labels become smoothing/2 and 1 − smoothing/2; in [0, 1)."""
    balance: NotNegative = 0.0
    """Weight of positives is (negatives/positives) to this power: 0 leaves rare attributes rare, 1 balances them."""
    zoom: ShareBelowOne = 0.08
    """Images are scaled by up to this share either way."""
    rotation: NotNegative = 6.0
    """… turned by up to so many degrees either way."""
    shift: ShareBelowOne = 0.03
    """… moved by up to this share of the side."""
    contrast: ShareBelowOne = 0.0
    """… stretched around their mean by up to this share."""
    brightness: NotNegative = 0.0
    """… brightened or darkened by up to this much, of 1."""
    blur: Share = 0.0
    """Share of the batches of which half is blurred, so that blurry reconstructions are read too; in [0, 1]."""
    pixel_noise: NotNegative = 0.0
    """Highest standard deviation of noise on the pixels."""
    reconstructed: Share = 0.0
    """Share of the images replaced by their reconstruction where an autoencoder is given; in [0, 1]."""
