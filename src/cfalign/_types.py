"""What cfalign asks of the models that users bring, and the shapes that travel between modules.

Users bring objects that satisfy these protocols; nobody subclasses anything.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "image channel height width"]  # values in [0, 1]
Latents = Float[Tensor, "image *latent"]  # any shape after the first axis
Logits = Float[Tensor, "image head"]  # sigmoid(logit) is the head's probability


Residual = Literal["gated", "kept", "dropped"]
"""What becomes of the part of an image that an autoencoder cannot draw."""


MetricName = Literal["latent", "data"]
"""In which metric a walk goes down."""


@runtime_checkable
class Autoencoder(Protocol):
    """Maps images in [0, 1] to latents of any shape and back.

    An attribute ``size`` (int), where present, is the side of the square images that it works on. An attribute
    ``residual``, where present, says what becomes of the part of an image that it cannot draw, unless the search does.
    """

    def encode(self, images: Tensor, /) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to latents [n, ...]."""
        ...

    def decode(self, latents: Tensor, /) -> Tensor:
        """Latents [n, ...] to images [n, c, h, w] in [0, 1], differentiable."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """Named heads over one image batch; one call yields all of them."""

    @property
    def name(self) -> str:
        """A short name, used where two classifiers share a target."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the heads, lower snake case, in the order of the columns of ``logits``."""
        ...

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow from ``logits`` to the images. A black box has none and cannot be a base."""
        ...

    def logits(self, images: Tensor, /) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to logits [n, target]; sigmoid(logit) is the head's probability."""
        ...
