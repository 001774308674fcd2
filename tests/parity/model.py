"""A small autoencoder, a four-head classifier and images, all from formulas: no file, no training.

Built so that counterfactual searches end in every way: a wanted drop, the floor, a turning score, the image
limit, the lambda limit and a gradient of exactly zero. Everything is float32 on the CPU. Weights: Walsh signs
(exact) and ``RandomState.uniform`` (its stream is frozen by numpy): two machines build the same model.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SIDE = 16
CHANNELS = 3
PIXELS = CHANNELS * SIDE * SIDE
TARGETS = ("steep", "mixed", "ripple", "slow")
IMAGES = 48
# Walsh indices (row, column) of each latent's pattern; the first is constant and carries the brightness.
_WALSH = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (3, 1), (1, 3), (2, 2), (4, 1), (1, 4), (5, 2))
_CHANNEL_SIGNS = ((1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, 1, 1))
LATENTS = len(_WALSH)
_SLOW = (9, 10, 11)  # latents that only the head "slow" reads, with a gain so small that it hardly moves them
_FAST = 9  # the others come first
_FAST_GAIN, _SLOW_GAIN = 3e-3, 4e-5
_CONTRAST = 1.05  # more than 1: white and black images are decoded beyond the clip and have no gradient


def _bits(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of set bits of small integers."""
    return np.asarray([int(value).bit_count() for value in values.ravel()]).reshape(values.shape)


def _patterns() -> NDArray[np.float32]:
    """Mutually orthogonal patterns of +1 and -1, [latent, pixel], float32."""
    row, column = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    out = np.empty((LATENTS, CHANNELS, SIDE, SIDE), dtype=np.float32)
    for index, (a, b) in enumerate(_WALSH):
        sign = (-1.0) ** (_bits(row & a) + _bits(column & b))
        for channel, factor in enumerate(_CHANNEL_SIGNS[index % 4 if index else 0]):
            out[index, channel] = factor * sign
    return out.reshape(LATENTS, PIXELS)


def _uniform(seed: int, *shape: int) -> NDArray[np.float32]:
    """Uniform numbers in [-1, 1), float32."""
    return np.random.RandomState(seed).uniform(-1.0, 1.0, size=shape).astype(np.float32)


class ToyAutoencoder(nn.Module):
    """encode: [n, 3, 16, 16] in [0, 1] to [n, 12]; decode: back, clipped to [0, 1].

    Linear but for a sine and the clip.
    """

    patterns: Tensor
    gain: Tensor

    size = SIDE

    residual = "dropped"

    def __init__(self) -> None:
        super().__init__()
        gain = np.full(LATENTS, _FAST_GAIN, dtype=np.float32)
        gain[list(_SLOW)] = _SLOW_GAIN
        self.register_buffer("patterns", torch.from_numpy(_patterns()))
        self.register_buffer("gain", torch.from_numpy(gain))

    def encode(self, images: Tensor, /) -> Tensor:
        """Coefficient of every pattern, divided by its gain."""
        centred = images.flatten(1) - 0.5
        return centred @ self.patterns.T / PIXELS / self.gain

    def decode(self, latents: Tensor, /) -> Tensor:
        """Sum of the patterns; the sine bends the rays: a score along one is not a sigmoid of a line."""
        amount = _CONTRAST * latents * self.gain
        bend = 0.004 * torch.sin(40.0 * amount[:, :_FAST].roll(1, dims=1))
        bent = torch.cat([amount[:, :_FAST] + bend, amount[:, _FAST:]], dim=1)
        flat = (0.5 + bent @ self.patterns).clamp(0.0, 1.0)
        return flat.reshape(-1, CHANNELS, SIDE, SIDE)


class ToyClassifier(nn.Module):
    """Four heads; ``forward`` and ``logits`` both give logits [n, 4]."""

    name = "toy"
    targets = TARGETS
    differentiable = True
    patterns: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        first = _uniform(11, 9, LATENTS)
        first[:, 0] *= 0.1  # brightness alone should decide nothing
        first[:, list(_SLOW)] = 0.0
        second = _uniform(12, 3, 9)
        slow = np.zeros(LATENTS, dtype=np.float32)
        slow[list(_SLOW)] = (60.0, -45.0, 50.0)
        self.first = nn.Parameter(torch.from_numpy(first))
        self.second = nn.Parameter(torch.from_numpy(second))
        self.slow = nn.Parameter(torch.from_numpy(slow))
        self.register_buffer("patterns", torch.from_numpy(_patterns()))
        self.register_buffer("bias", torch.tensor([0.6, 0.4, 0.2, 0.8]))

    def logits(self, images: Tensor, /) -> Tensor:
        """Pattern coefficients, one tanh layer, four heads; two heads have a term of their own."""
        amount = (images.flatten(1) - 0.5) @ self.patterns.T / PIXELS
        hidden = torch.tanh(12.0 * amount @ self.first.T)
        shared = hidden @ self.second.T
        steep = 9.0 * shared[:, 0] + 40.0 * amount[:, 1]
        mixed = 5.0 * shared[:, 1] + 2.0 * shared[:, 0]
        ripple = 1.5 * shared[:, 2] + 1.6 * torch.sin(220.0 * amount[:, 3] + 140.0 * amount[:, 5])
        slow = amount @ self.slow
        return torch.stack([steep, mixed, ripple, slow], dim=1) + self.bias

    def forward(self, images: Tensor) -> Tensor:
        """The same as ``logits``."""
        return self.logits(images)


def toy_images() -> Tensor:
    """Images [48, 3, 16, 16] in [0, 1]: pattern mixtures at five brightnesses, and some noise.

    The last two are black and white.
    """
    weights = _uniform(21, IMAGES, LATENTS) * 0.05
    weights[:, 0] = np.asarray([0.3, 0.0, 0.15, -0.25, -0.42], dtype=np.float32)[np.arange(IMAGES) % 5]
    flat = 0.5 + weights @ _patterns() + 0.01 * _uniform(22, IMAGES, PIXELS)
    flat[-1], flat[-2] = 1.0, 0.0
    return torch.from_numpy(flat.clip(0.0, 1.0).astype(np.float32).reshape(IMAGES, CHANNELS, SIDE, SIDE))
