"""Chance: what random directions do to a head, and how rarely one of them would do as much as a feature does.

Among d free directions a random one has the cosine c with the one that moves the head most, c² ~ Beta(½, (d − 1)/2).
Where they are few, the feature itself is a good part of what random directions do: chance seems large, but none of them
ever does more than the feature. So features are compared with that distribution; with many free directions it becomes
Student's t. Exact for a head that is linear along them. Not in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc

from cfalign._analysis.statistics import generator
from cfalign._analysis.unexplained import apart
from cfalign._discovery.walks import Line
from cfalign._results import Floats

FEWEST_FREE = 3.0
"""Free directions below which a random one lies so near to any feature that none could be told from it."""
DRAWS, NODES = 4096, 41
"""Of the integral over what random directions may do, and over noise of images."""


@dataclass(frozen=True)
class Controls:
    """Random directions that the known heads do not look at on the average."""

    lines: tuple[Line, ...]
    free: float
    """How many directions are free: Σp² squared over Σp⁴ of what is left of each, p; a whole number where known looks
    are wholly left out of the others."""


def controls_of(coordinates: Floats, known: Floats, *, count: int, ends: float, seed: int) -> Controls:
    """``count`` random lines through images [image, coordinate], by slopes of known heads [image, head, coordinate]."""
    size = coordinates.shape[1]
    drawn = generator(seed, "unnamed controls").standard_normal((count, size))
    looks = (known / np.maximum(np.linalg.norm(known, axis=2, keepdims=True), 1e-12)).mean(axis=0)
    rest = apart(drawn, np.broadcast_to(looks, (count, *looks.shape)))
    units = rest / np.linalg.norm(rest, axis=1, keepdims=True)
    left = np.linalg.svd(apart(np.eye(size), np.broadcast_to(looks, (size, *looks.shape))), compute_uv=False)
    free = float((left**2).sum() ** 2 / (left**4).sum())
    return Controls(tuple(Line.through(direction, coordinates, ends) for direction in units), free)


def p_value(effect: float, *, random: Floats, noise: float, free: float) -> float:
    """How often a random direction would do as much as ``effect`` by chance, two-sided.

    ``random``: what random directions did [control]. ``noise``: standard error of the effect. ``free``: directions that
    random ones are drawn from. NaN where nothing varies, or fewer than 3 are free.
    """
    random = random[np.isfinite(random)]
    chance = float(np.sqrt(np.square(random).mean())) if len(random) else float("nan")
    spread = float(np.hypot(chance, noise))
    if not (spread > 0 and np.isfinite(effect) and free >= FEWEST_FREE):
        return float("nan")
    share = max((chance / spread) ** 2, 1e-12)  # of the spread that is of directions and not of images
    squares = _mean_squares(len(random), free)
    steps = np.linspace(-8, 8, NODES)
    weights = np.exp(-(steps**2) / 2)
    wanted = abs(effect) / spread * np.sqrt(free * squares)[:, None] - np.sqrt(1 - share) * steps
    beyond = _larger(wanted / np.sqrt(share * free), free)
    return float(min(1.0, 2 * (beyond @ weights).mean() / weights.sum()))


def _mean_squares(count: int, free: float) -> Floats:
    """Draws of the mean of c² over ``count`` random directions; the same ones every time."""
    drawn: Floats = np.random.default_rng(0).beta(0.5, (free - 1) / 2, size=(DRAWS, count))
    return np.asarray(drawn.mean(axis=1))


def _larger(cosines: Floats, free: float) -> Floats:
    """How often a random direction has a larger cosine than these."""
    half = betainc((free - 1) / 2, 0.5, 1 - np.clip(cosines, -1, 1) ** 2) / 2
    return np.asarray(np.where(cosines >= 0, half, 1 - half))


def unknown(free: float) -> str:
    """Why there is no p-value, in words; empty where the free directions are many enough."""
    if free >= FEWEST_FREE:
        return ""
    return (
        f"the reference heads leave {free:.1f} directions of the latent space free, and of fewer than "
        f"{FEWEST_FREE:g} every random one is much like the feature"
    )
