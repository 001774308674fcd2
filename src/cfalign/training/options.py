"""Settings of a training; every value is checked when it is set."""

from __future__ import annotations

from dataclasses import asdict, replace
from math import ceil
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from cfalign._errors import BadInput
from cfalign._models.device import device_in_use, device_named, refuse_absent
from cfalign._validation import Count, Device, NotNegative, Positive, Share, ShareBelowOne, Whole, options, refuse_idle
from cfalign.training.principal_components import enough_images
from cfalign.training.splitting import Half

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
    """Settings of both trainings. Raises BadInput for a value that cannot work."""

    size: Count = 64
    """Side of the square images, in pixels: a multiple of 2 to the number of widths."""
    epochs: Positive = 20.0
    """Number of times that every training image is seen."""
    steps: Count | None = None
    """Number of batches; replaces ``epochs`` where it is given."""
    batch: Annotated[int, Field(ge=2)] = 32
    """Images per step."""
    learning_rate: Positive = 3e-3
    """Highest learning rate: it rises linearly during ``warmup`` and then falls to 0 along a cosine."""
    warmup: ShareBelowOne = 0.02
    """Share of the steps in which the learning rate rises, in [0, 1)."""
    weight_decay: NotNegative = 1e-3
    """Weight decay of AdamW; biases and normalisation layers have none."""
    average: ShareBelowOne = 0.998
    """The weights kept are a moving average with this decay, in [0, 1); 0 keeps those of the last step."""
    horizontal_flip: bool = True
    """Mirror half of the training images. Turn it off where left and right differ, as in chest X-rays or text."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the images held out for the measurement, in (0, 1), where no table decides."""
    seed: Whole = 0
    """Seed of every random draw."""
    device: Device | None = None
    """Where it is trained: cpu, cuda, cuda:1, mps, or auto for the accelerator of this machine; by default the CPU."""
    checkpoint_every: NotNegative = 30.0
    """Seconds between two checkpoints; more where writing takes long."""

    def __post_init__(self) -> None:
        refuse_absent(self.device)

    @property
    def place(self) -> torch.device:
        """The device of the training: its own, else the one in use, else the CPU."""
        return device_in_use() or torch.device("cpu") if self.device is None else device_named(self.device)

    def total_steps(self, images: int) -> int:
        """Number of batches for so many training images."""
        if self.batch > images:
            raise BadInput(f"batch is {self.batch}, but there are only {images} training images; give a smaller batch.")
        return self.steps if self.steps is not None else max(1, round(self.epochs * (images // self.batch)))

    def require_enough(self, images: int) -> None:
        """Raise BadInput where so many training images are too few for these settings."""
        self.total_steps(images)

    def identity(self) -> dict[str, Any]:
        """The choices that the result depends on."""
        chosen = {k: v for k, v in asdict(self).items() if k not in _NOT_PART_OF_THE_RESULT}
        return {k: v for k, v in chosen.items() if (k, v) not in (("half", "all"), ("person_column", None))}


@options(kw_only=True)
class AutoencoderTraining(Training):
    """Settings of an autoencoder whose latent is one vector, from principal components or from trained convolutions.

    Steps, rates, decay, average and checkpoints belong to ``convolutional``. Components take no steps and begin anew
    after an interruption. Raises BadInput for a value that cannot work or has no effect.

    >>> cfa.training.AutoencoderTraining(size=32, latent=64).architecture
    'components'
    """

    architecture: Literal["components", "convolutional"] = "components"
    """``components`` needs no steps and reconstructs sharper; ``convolutional`` can remove objects.
    docs/autoencoders.md compares them.
    """
    latent: Count | None = None
    """Length of the latent vector; by default 192 for components (an eighth of the training images where that is
    less), and 256 for ``convolutional``.
    """
    components: Count | None = None
    """Number of components that are known in all; the method ``completion`` fills left-out regions with them. By
    default 512, an eighth of the training images where that is less, and never fewer than ``latent``."""
    whiten_from: Whole = 30
    """Number of the strongest components that are divided by the deviation of the next one instead of their own, so
    that brightness does not drift; 0 whitens all (``components``).
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
            refuse_idle(self, "whiten_from", "components", needs="architecture='components'")
        if self.latent is not None and self.components is not None and self.components < self.latent:
            raise BadInput(f"components: expected at least latent = {self.latent}, got {self.components}.")

    def total_steps(self, images: int) -> int:
        """Number of batches for so many training images: none for components."""
        return super().total_steps(images) if self.architecture == "convolutional" else 0

    def require_enough(self, images: int) -> None:
        """Raise BadInput where so many training images are too few for these settings."""
        super().require_enough(images)
        if self.architecture == "components":
            count, values = self.known_components(images), 3 * self.size**2
            enough_images(images, count=count, values=values, mirrored=self.horizontal_flip)

    def latent_length(self, images: int) -> int:
        """The latent length for so many training images."""
        if self.latent is not None:
            return self.latent
        return self._at_most(192, images) if self.architecture == "components" else 256

    def known_components(self, images: int) -> int:
        """The number of components that are known in all, for so many training images."""
        if self.components is not None:
            return self.components
        return max(self.latent_length(images), self._at_most(512, images))

    def _at_most(self, count: int, images: int) -> int:
        return max(1, min(count, images // 8, 3 * self.size**2 - 1))


@options(kw_only=True)
class ClassifierTraining(Training):
    """Settings of a classifier with one head per attribute. Raises BadInput for a value that cannot work.

    >>> cfa.training.ClassifierTraining(size=64, epochs=5.0, targets=("smiling", "young")).batch
    64
    """

    targets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Attributes to learn; None for all that have both values among the training images."""
    half: Half = "all"
    """Which training images are learnt from: all, or the first or the second half, which share no image and no person.
    A second classifier that stands as a witness beside a first one learns from the second half. A half without at
    least 10 images with an attribute and 10 without it has no head for it.
    """
    person_column: Annotated[str, Field(min_length=1)] | None = None
    """Column of the labels that says who is on an image: nobody is in both halves, nor both trained on and held out at
    random. By default a column named identity, person, person_id, subject, subject_id, patient or patient_id.
    """
    widths: _Widths = (32, 64, 128, 192)
    """Channels after each halving."""
    hidden: Whole = 0
    """Width of the layer before the heads; 0 for none."""
    residual: bool = True
    """Whether a residual block follows every halving but the first."""
    dropout: ShareBelowOne = 0.3
    """Share of the heads' inputs that is dropped in training, in [0, 1)."""
    epochs: Positive = 12.0
    batch: Annotated[int, Field(ge=2)] = 64
    learning_rate: Positive = 2e-3
    warmup: ShareBelowOne = 0.1
    weight_decay: NotNegative = 0.05
    average: ShareBelowOne = 0.995
    label_smoothing: ShareBelowOne = 0.0
    """Share by which labels move towards 0.5: 0 and 1 become smoothing/2 and 1 − smoothing/2; in [0, 1)."""
    balance: NotNegative = 0.0
    """Power of negatives/positives that weighs positive labels: 0 for no weights, 1 for equal classes."""
    zoom: ShareBelowOne = 0.08
    """Largest change of scale of training images, as a share, in [0, 1)."""
    rotation: NotNegative = 6.0
    """Largest rotation of training images, in degrees either way."""
    shift: ShareBelowOne = 0.03
    """Largest shift of training images, as a share of the side, in [0, 1)."""
    contrast: ShareBelowOne = 0.0
    """Largest change of contrast around the image's mean, as a share, in [0, 1)."""
    brightness: NotNegative = 0.0
    """Largest change of brightness; images range over [0, 1]."""
    blur: Share = 0.0
    """Share of the batches in which half of the images are blurred, so that heads read blurry reconstructions; in
    [0, 1]."""
    pixel_noise: NotNegative = 0.0
    """Largest standard deviation of noise on the pixels; images range over [0, 1]."""
    reconstructed: Share = 0.0
    """Share of the training images replaced by their reconstructions, which needs an autoencoder; in [0, 1]."""


def second(options: ClassifierTraining | None = None) -> ClassifierTraining:
    """Options of a second network, the witness of a first one that was trained with ``options`` (None: the defaults).

    It learns from other images, from another seed, in another architecture. ``half`` is the half that the first one
    did not learn from, and "second" where it learnt from all images; then half of the images are seen twice as often
    (``epochs``; ``steps`` stay where they are set). ``seed`` is one more, ``residual`` the opposite, and ``widths``
    are a sixteenth larger, rounded up to a multiple of 8 (from 32 channels on). All else is kept.

    >>> cfa.training.second().half, cfa.training.second().widths
    ('second', (40, 72, 136, 208))
    >>> cfa.training.second(cfa.training.ClassifierTraining(seed=4, half="second", horizontal_flip=False)).half
    'first'
    """
    first = ClassifierTraining() if options is None else options
    return replace(
        first,
        half="first" if first.half == "second" else "second",
        seed=first.seed + 1,
        residual=not first.residual,
        widths=tuple(map(_wider, first.widths)),
        epochs=2 * first.epochs if first.half == "all" else first.epochs,
    )


def _wider(width: int) -> int:
    """A sixteenth larger, rounded up to what processors like."""
    unit = 8 if width >= 32 else 1
    return ceil(width * 17 / 16 / unit) * unit
