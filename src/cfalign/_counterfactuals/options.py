"""Settings of a search for counterfactuals; the same dataclasses are the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from cfalign._errors import BadInput

MOST = 1024
"""Evaluations per image where the options name none."""


@dataclass(frozen=True)
class EstimateOptions:
    """Whether and how black boxes, through which no gradient flows, become bases."""

    enabled: bool = False
    evaluations: int | None = None
    """Decoder forwards and forward passes of the classifier per image, two per direction; by default twice the latent's
    dimensions, which is exact, and at most 1,024."""
    step: float = 0.05
    """Distance of a probe from z0, as a share of ‖z0‖: large enough for scores of few digits, small enough to be local.
    """
    seed: int = 0
    """Seed of the directions, which differ from image to image."""

    def __post_init__(self) -> None:
        if self.evaluations is not None and self.evaluations < 2:
            raise BadInput(f"estimate.evaluations must be at least 2, got {self.evaluations!r}.")
        if not 0 < self.step <= 1:
            raise BadInput(f"estimate.step must be above 0 and at most 1, got {self.step!r}.")
        if self.seed < 0:
            raise BadInput(f"estimate.seed must be at least 0, got {self.seed!r}.")


Method = Literal["latent-shift", "iterated", "latent-cf", "pixels"]


@dataclass(frozen=True)
class DescentOptions:
    """How the methods that take many steps (``iterated``, ``latent-cf``, ``pixels``) take them."""

    step: float | None = None
    """Length of a step, of an optimiser's first one, as a share of ‖z0‖; by default 0.05, and 0.01 in pixels."""
    max_steps: int = 100
    """Steps per counterfactual, each one decoder forward with its backward pass."""
    optimiser: Literal["adam", "gradient"] = "adam"
    """Of ``latent-cf`` and ``pixels``: Adam, or plain gradient descent at a constant rate."""
    distance_weight: float = 0.1
    """Weight of ‖z − z0‖² / ‖z0‖² beside ((value − aim) / (value0 − aim))² in their loss; it halves every 20 steps, so
    that the aim is met in the end."""

    def __post_init__(self) -> None:
        if self.step is not None and not 0 < self.step <= 1e9:
            raise BadInput(f"descent.step must be above 0, or None for the method's own, got {self.step!r}.")
        if self.max_steps < 1:
            raise BadInput(f"descent.max_steps must be at least 1, got {self.max_steps!r}.")
        if self.optimiser not in ("adam", "gradient"):
            raise BadInput(f"descent.optimiser must be 'adam' or 'gradient', got {self.optimiser!r}.")
        if not 0 <= self.distance_weight <= 1e9:
            raise BadInput(f"descent.distance_weight must be at least 0, got {self.distance_weight!r}.")


@dataclass(frozen=True)
class SearchOptions:
    """How a counterfactual is searched. Scores are probabilities unless the base is a composition on probabilities."""

    drop: float = 0.6
    """Requested drop of the base score."""
    floor: float = 0.05
    """Score aimed at where the start is too low for the drop."""
    tolerance: float = 0.01
    """A search lands when the score is within this of its aim (``refined``)."""
    off_drop: float = 0.85
    """Drop at which an attribute counts as switched off: effects are read there, further along the same ray."""
    eligible: float = 0.5
    """Only images with at least this base score at x0 get a counterfactual."""
    strategy: Literal["refined", "schedule"] = "refined"
    max_evaluations: int = 20
    """Decoder forwards per counterfactual (``refined``)."""
    max_distance: float = 4.0
    """Bound on the latent distance, in multiples of ‖z0‖ (``refined``)."""
    max_lambda: float = 500_000.0
    """Bound on λ (``schedule``)."""
    max_image_change: float | None = None
    """Bound on Σ|x0 − x_λ| / Σ|x0|; ``schedule`` uses 0.05 when this is None."""
    method: Method = "latent-shift"
    """``latent-shift``: one direction, the gradient at z0 (the paper's). ``iterated``: the gradient is taken anew after
    every step. ``latent-cf``: z is optimised. ``pixels``: the image itself is, without the autoencoder."""
    descent: DescentOptions = field(default_factory=DescentOptions)
    """Of the methods other than ``latent-shift``, which search with ``refined`` only."""

    def __post_init__(self) -> None:
        if self.strategy not in ("refined", "schedule"):
            raise BadInput(f"strategy must be 'refined' or 'schedule', got {self.strategy!r}.")
        if self.method not in get_args(Method):
            raise BadInput(f"method must be one of {', '.join(get_args(Method))}; got {self.method!r}.")
        if self.strategy == "schedule" and self.method != "latent-shift":
            raise BadInput(f"The strategy 'schedule' belongs to the method 'latent-shift', not to {self.method!r}.")
        for name, low, high in (
            ("drop", 0, 10),
            ("floor", -100, 1),
            ("off_drop", 0, 10),
            ("eligible", -100, 100),
            ("tolerance", 0, 1),
            ("max_distance", 0, 1e9),
            ("max_lambda", 0, 1e12),
        ):
            value = getattr(self, name)
            if not low < value <= high:
                raise BadInput(f"{name} must be above {low} and at most {high}, got {value!r}.")
        if self.max_evaluations < 1:
            raise BadInput(f"max_evaluations must be at least 1, got {self.max_evaluations!r}.")
        if self.max_image_change is not None and not self.max_image_change > 0:
            raise BadInput(f"max_image_change must be above 0, or None for no bound, got {self.max_image_change!r}.")
