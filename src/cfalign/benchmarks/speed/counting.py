"""Models that count the images that pass through them, forward and backward.

A pass is counted per image: a batch of 64 through the decoder is 64 decoder forwards. A backward pass is counted where
the gradient arrives at what the model returned, so it is counted once per image whatever lies behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor

from cfalign._types import Autoencoder, Classifier


@dataclass(frozen=True)
class Passes:
    """Images that passed through the models, or means of such numbers per counterfactual."""

    encodes: float = 0.0
    decodes: float = 0.0
    """Decoder forwards."""
    decoder_backwards: float = 0.0
    scored: float = 0.0
    """Forward passes of the classifier."""
    classifier_backwards: float = 0.0

    @property
    def decoder_equivalents(self) -> float:
        """Decoder forwards and backwards."""
        return self.decodes + self.decoder_backwards

    def per(self, count: int) -> Passes:
        """The same, divided by ``count``; NaN where that is 0."""
        return Passes(*((getattr(self, f.name) / count) if count else float("nan") for f in fields(self)))


@dataclass
class Counter:
    """What was counted so far, by the names of ``Passes``."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, images: int) -> None:
        """So many images passed."""
        self.counts[name] = self.counts.get(name, 0) + images

    def returned(self, name: str, backward: str, out: Tensor) -> Tensor:
        """Counts a forward pass that returned ``out`` [n, ...], and every gradient that arrives there later."""
        self.add(name, len(out))
        if out.requires_grad:
            out.register_hook(lambda gradient: self.add(backward, len(gradient)))
        return out

    def passes(self) -> Passes:
        """All that was counted."""
        return Passes(**{name: float(count) for name, count in self.counts.items()})


class CountedAutoencoder:
    """An autoencoder that counts; it answers as the one inside, and has its attributes."""

    def __init__(self, inside: Autoencoder, counter: Counter) -> None:
        self.inside, self._counter = inside, counter

    def encode(self, images: Tensor) -> Tensor:
        """Latents of images [n, c, h, w]."""
        self._counter.add("encodes", len(images))
        return self.inside.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Images of latents [n, ...]."""
        return self._counter.returned("decodes", "decoder_backwards", self.inside.decode(latents))

    def __getattr__(self, name: str) -> Any:
        return _of_the_one_inside(self, name)


class CountedClassifier:
    """A classifier that counts; it answers as the one inside, and has its attributes."""

    def __init__(self, inside: Classifier, counter: Counter) -> None:
        self.inside, self._counter = inside, counter

    @property
    def name(self) -> str:
        """Its name."""
        return self.inside.name

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of its heads."""
        return self.inside.targets

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow through it."""
        return self.inside.differentiable

    def logits(self, images: Tensor) -> Tensor:
        """Logits [n, target] of images [n, c, h, w]."""
        return self._counter.returned("scored", "classifier_backwards", self.inside.logits(images))

    def __getattr__(self, name: str) -> Any:
        return _of_the_one_inside(self, name)


def _of_the_one_inside(model: Any, name: str) -> Any:
    if name.startswith("__") or name == "inside":  # asked for by pickle and copy before there is one
        raise AttributeError(name)
    return getattr(model.inside, name)
