"""The networks of the paper in their size, with random weights: a VQ-GAN of 256 px and a classifier of 40 attributes.

Seconds and memory do not depend on what the weights are. How many steps a search takes does, so heads and latents are
scaled. Every head starts at the same logit. The base falls so fast that the authors' fixed steps of λ take about as
many evaluations as on trained networks, over a way on which random networks are nearly straight.
"""

from __future__ import annotations

from typing import Any

import torch
from scipy.special import expit
from torch import Tensor, nn

from cfalign import autoencoders, classifiers
from cfalign._models.guard import undisturbed
from cfalign.autoencoders.families.taming import FACES_HQ, untrained
from cfalign.benchmarks.speed.options import SpeedOptions
from cfalign.benchmarks.speed.setting import Setting
from cfalign.classifiers.families.branched_network import ATTRIBUTES, SIZE, BranchedNetwork
from cfalign.synthetic import render, sample

BASE = "smiling"
START = 1.5
"""Logit of every head at x0."""
LAMBDA = 35.0
"""λ at which the base has lost 0.6 if it falls as at z0."""
STRETCH = 10.0
"""By which latents are multiplied."""


def one_image(options: SpeedOptions) -> Setting:
    """One image, one image per pass. Raises BadInput without the extra ``diffusers``."""
    return _setting(options.seed, images=1)


def four_images(options: SpeedOptions) -> Setting:
    """The same image four times, in one pass."""
    return _setting(options.seed, images=4)


def _setting(seed: int, *, images: int) -> Setting:
    inside = untrained(FACES_HQ, seed=seed)
    autoencoder = autoencoders.wrap(
        _Stretched(inside.module),
        size=inside.size,
        value_range=(-1.0, 1.0),
        residual="dropped",  # walks start at D(E(x)), as in the paper: random networks draw nothing of x
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BranchedNetwork()
    heads = _ScaledHeads(network.eval().requires_grad_(False))
    face = render(sample(1, seed=seed + 50_000))
    image = nn.functional.interpolate(face, (FACES_HQ.resolution,) * 2, mode="bilinear").clamp(0, 1)
    classifier = classifiers.wrap(heads, ATTRIBUTES, link="sigmoid", size=SIZE, name="branched_untrained")
    setting = Setting(image.repeat(images, 1, 1, 1), autoencoder, classifier, (BASE,), batch=images)
    heads.scale_by(setting, image)
    return setting


class _Stretched(nn.Module):
    """An autoencoder whose latents are multiplied by ``STRETCH``."""

    def __init__(self, inside: Any) -> None:
        super().__init__()
        self.inside = inside

    def encode(self, images: Tensor) -> Tensor:
        """Latents of images."""
        latents: Tensor = self.inside.encode(images) * STRETCH
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Images of latents."""
        images: Tensor = self.inside.decode(latents / STRETCH)
        return images


class _ScaledHeads(nn.Module):
    """Logits [n, target] of a network, moved and stretched."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.start, self.gain = nn.Buffer(torch.zeros(len(ATTRIBUTES))), nn.Buffer(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """gain · (logits − start) + START."""
        moved: Tensor = self.gain * (self.network(images) - self.start) + START
        return moved

    def scale_by(self, setting: Setting, image: Tensor) -> None:
        """Heads start at ``START`` on D(E(x)) of the image, and the base has lost 0.6 at ``LAMBDA``."""
        with undisturbed(setting.autoencoder, self):
            with torch.no_grad():
                z = setting.autoencoder.encode(image)
            z = z.detach().requires_grad_(True)
            logits = setting.classifier.logits(setting.autoencoder.decode(z).clamp(0, 1))
            (slope,) = torch.autograd.grad(logits[0, ATTRIBUTES.index(BASE)], z)
        self.start.copy_(logits[0].detach() - START + self.start)
        self.gain.fill_(_slope_wanted() / float(slope.double().norm()))


def _slope_wanted() -> float:
    """‖∂logit/∂z‖ at which the score falls by 0.6 over ``LAMBDA`` times its own gradient."""
    score = float(expit(START))
    end = score - 0.6
    fall = START - float(torch.logit(torch.tensor(end, dtype=torch.float64)))
    return float((fall / (LAMBDA * score * (1 - score))) ** 0.5)
