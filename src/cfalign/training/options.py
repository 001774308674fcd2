"""What can be chosen about a training, checked when it is chosen."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from cfalign._errors import BadInput
from cfalign.training.principal_components import enough_images

_NOT_PART_OF_THE_RESULT = ("device", "checkpoint_every")


@dataclass(frozen=True, kw_only=True)
class Training:
    """What both trainings share. Any value that cannot work is BadInput."""

    size: int = 64
    """Side of the square images, in pixels: a multiple of 2 to the number of widths."""
    epochs: float = 20.0
    """How often every training image is seen."""
    steps: int | None = None
    """Number of batches; where given, instead of ``epochs``."""
    batch: int = 32
    learning_rate: float = 3e-3
    """At its highest: it rises over the first ``warmup`` of the steps and falls to 0 along a cosine."""
    warmup: float = 0.02
    """Share of the steps, in [0, 1)."""
    weight_decay: float = 1e-3
    """Of weights; never of biases and normalisation."""
    average: float = 0.998
    """The weights kept are a moving average with this decay, in [0, 1); 0 keeps those of the last step."""
    horizontal_flip: bool = True
    """Mirror half of the training images. Turn it off where left and right differ, as in chest X-rays or text."""
    held_out: float = 0.1
    """Share of the images kept for the measurement, in (0, 1), where no table says which."""
    seed: int = 0
    device: str = "cpu"
    checkpoint_every: float = 30.0
    """Seconds; less often where writing takes long."""

    def __post_init__(self) -> None:
        _whole(self.size, "size", least=1)
        _whole(self.batch, "batch", least=2)
        _whole(self.seed, "seed", least=0)
        if self.steps is not None:
            _whole(self.steps, "steps", least=1)
        _number(self.epochs, "epochs", above=0.0)
        _number(self.learning_rate, "learning_rate", above=0.0)
        _number(self.warmup, "warmup", least=0.0, below=1.0)
        _number(self.weight_decay, "weight_decay", least=0.0)
        _number(self.average, "average", least=0.0, below=1.0)
        _number(self.held_out, "held_out", above=0.0, below=1.0)
        _number(self.checkpoint_every, "checkpoint_every", least=0.0)
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # torch answers with either, by kind of device
            reason = str(error).splitlines()[0].rstrip(".")
            raise BadInput(f"The device {self.device!r} cannot be used: {reason}.") from error

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


@dataclass(frozen=True, kw_only=True)
class AutoencoderTraining(Training):
    """How to make an autoencoder with one vector as latent: from principal components, or by training convolutions.

    Steps, rates, decay, average and checkpoints belong to ``convolutional``; components take no steps, and begin anew
    where they were interrupted.
    """

    architecture: Literal["components", "convolutional"] = "components"
    """``components`` needs no steps and reconstructs sharper; ``convolutional`` can remove objects. The README of
    ``cfalign/autoencoders`` compares them.
    """
    latent: int | None = None
    """Length of the latent vector; by default 512 components (an eighth of the training images where that is less), or
    256 of ``convolutional``.
    """
    whiten_from: int = 30
    """The strongest components, so many, are divided by the deviation of the next instead of their own, so that
    brightness does not drift; 0 whitens all (``components``).
    """
    encoder: tuple[int, ...] = (32, 64, 128)
    """Channels after each halving (``convolutional``)."""
    decoder: tuple[int, ...] = (128, 64, 32)
    """Channels before each doubling (``convolutional``)."""
    noise: float = 0.1
    """Standard deviation of the noise on the latent while training; the latent has 1 (``convolutional``)."""
    epochs: float = 40.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture not in ("components", "convolutional"):
            raise BadInput(f"architecture must be 'components' or 'convolutional', came {self.architecture!r}.")
        if self.latent is not None:
            _whole(self.latent, "latent", least=1)
        _whole(self.whiten_from, "whiten_from", least=0)
        _widths(self.encoder, "encoder")
        _widths(self.decoder, "decoder")
        _number(self.noise, "noise", least=0.0)

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


@dataclass(frozen=True, kw_only=True)
class ClassifierTraining(Training):
    """How to train a classifier with one head per attribute."""

    targets: tuple[str, ...] | None = None
    """Which attributes of the table; None takes every one that has both values among the training images."""
    widths: tuple[int, ...] = (32, 64, 128, 192)
    """Channels after each halving."""
    hidden: int = 0
    """Width of a layer before the heads; 0 for none."""
    residual: bool = True
    """A residual block after every halving but the first."""
    dropout: float = 0.3
    """Share of what the heads read that is dropped while training, in [0, 1)."""
    epochs: float = 12.0
    batch: int = 64
    learning_rate: float = 2e-3
    warmup: float = 0.1
    weight_decay: float = 0.05
    average: float = 0.995
    label_smoothing: float = 0.0
    """Labels become smoothing/2 and 1 − smoothing/2; in [0, 1)."""
    balance: float = 0.0
    """Weight of positives is (negatives/positives) to this power: 0 leaves rare attributes rare, 1 balances them."""
    zoom: float = 0.08
    """Images are scaled by up to this share either way."""
    rotation: float = 6.0
    """… turned by up to so many degrees either way."""
    shift: float = 0.03
    """… moved by up to this share of the side."""
    contrast: float = 0.0
    """… stretched around their mean by up to this share."""
    brightness: float = 0.0
    """… brightened or darkened by up to this much, of 1."""
    blur: float = 0.0
    """Share of the batches of which half is blurred, so that blurry reconstructions are read too; in [0, 1]."""
    pixel_noise: float = 0.0
    """Highest standard deviation of noise on the pixels."""
    reconstructed: float = 0.0
    """Share of the images replaced by their reconstruction where an autoencoder is given; in [0, 1]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _widths(self.widths, "widths")
        _whole(self.hidden, "hidden", least=0)
        _number(self.dropout, "dropout", least=0.0, below=1.0)
        _number(self.label_smoothing, "label_smoothing", least=0.0, below=1.0)
        for name in ("balance", "rotation", "brightness", "pixel_noise"):
            _number(getattr(self, name), name, least=0.0)
        for name in ("zoom", "shift", "contrast"):
            _number(getattr(self, name), name, least=0.0, below=1.0)
        for name in ("blur", "reconstructed"):
            _number(getattr(self, name), name, least=0.0, most=1.0)
        if self.targets is not None and not self.targets:
            raise BadInput("targets must name at least one attribute, or be left out for all.")


def _whole(value: object, name: str, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BadInput(f"{name} must be a whole number, at least {least}; came {value!r}.")


def _number(
    value: object,
    name: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and math.isfinite(value) and value >= least and value > above and value < below and value <= most:  # type: ignore[operator, arg-type]
        return
    bounds = [(least, "at least"), (above, "above"), (below, "below"), (most, "at most")]
    said = " and ".join(f"{word} {bound:g}" for bound, word in bounds if math.isfinite(bound))
    raise BadInput(f"{name} must be a number {said}; came {value!r}.")


def _widths(value: tuple[int, ...], name: str) -> None:
    if not value:
        raise BadInput(f"{name} must hold at least one number of channels.")
    for width in value:
        _whole(width, name, least=1)
