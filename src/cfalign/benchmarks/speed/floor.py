"""Seconds of single passes, and the floor: what counterfactuals of some images cost at the least.

Per image: one encode, one decode, and two classifier passes, on x and on x0; the forward pass at z0 is shared by all
bases of the image. Per counterfactual: one backward pass through decoder and classifier, one decoder forward and one
classifier forward.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from cfalign._models.guard import undisturbed
from cfalign.benchmarks.speed.setting import Setting

BATCHES = (16, 32, 64, 128)
"""Images per pass among which the best number is looked for."""


@dataclass(frozen=True)
class PassTimes:
    """Seconds per image of every kind of pass."""

    batch: int
    encode: float
    decode: float
    classify: float
    backward: float
    """Backward through classifier and decoder, of a forward pass that was made before."""

    @property
    def per_image(self) -> float:
        """What an image costs before any counterfactual."""
        return self.encode + self.decode + 2 * self.classify

    @property
    def per_counterfactual(self) -> float:
        """What a counterfactual costs beside its image."""
        return self.backward + self.decode + self.classify

    def floor(self, *, images: int, counterfactuals: int) -> float:
        """Seconds per counterfactual of so many images; NaN without counterfactuals."""
        if not counterfactuals:
            return float("nan")
        return self.per_image * images / counterfactuals + self.per_counterfactual


def best_batch(setting: Setting, *, batches: Sequence[int] = BATCHES, sweeps: int = 3) -> int:
    """The number of images per pass at which a counterfactual costs least: the best of some sweeps over all numbers."""
    seen: dict[int, float] = {}
    for _ in range(sweeps):
        for batch in batches:
            cost = pass_times(setting, batch=batch).per_counterfactual
            seen[batch] = min(cost, seen.get(batch, cost))
    return min(seen, key=lambda batch: seen[batch])


def pass_times(setting: Setting, *, batch: int, repeats: int = 5) -> PassTimes:
    """Seconds per image in passes of ``batch`` images: medians of ``repeats``, after one pass that does not count."""
    autoencoder, classifier = setting.autoencoder, setting.classifier
    x = setting.images.repeat(-(-batch // len(setting.images)), 1, 1, 1)[:batch]
    with undisturbed(autoencoder, classifier):
        with torch.no_grad():
            z = autoencoder.encode(x)
            encode = _seconds(lambda: autoencoder.encode(x), repeats)
            decode = _seconds(lambda: autoencoder.decode(z), repeats)
            classify = _seconds(lambda: classifier.logits(x), repeats)
        backward = _seconds(_backward(setting, z), repeats)
    return PassTimes(batch, *(seconds / batch for seconds in (encode, decode, classify, backward)))


def _backward(setting: Setting, latents: Tensor) -> Callable[[], object]:
    """One backward pass of the first base, of a forward pass that is made now."""
    z = latents.detach().requires_grad_(True)
    column = setting.classifier.targets.index(setting.bases[0])
    value = setting.classifier.logits(setting.autoencoder.decode(z))[:, column].sum()
    return lambda: torch.autograd.grad(value, z, retain_graph=True)


def _seconds(work: Callable[[], object], repeats: int) -> float:
    if repeats > 1:
        work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return median(taken)
