"""Settings of a search for counterfactuals."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field

from cfalign._errors import BadInput
from cfalign._results import StartsAt
from cfalign._types import MetricName, Residual
from cfalign._validation import Count, Positive, Whole, options, refuse_idle

MOST = 1024
"""Evaluations per image where the options name none."""


@options()
class EstimateOptions:
    """Whether and how the gradients of black boxes, through which none flows, are estimated."""

    enabled: bool = False
    """Whether black boxes may be bases."""
    evaluations: Annotated[int, Field(ge=2)] | None = None
    """Decoder forwards and forward passes of the classifier per image, two per direction. By default twice the latent's
    dimensions, which is exact, and at most 1,024."""
    step: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Distance of a probe from z0, as a share of ‖z0‖: large enough for scores of few digits, small enough to be local.
    """
    seed: Whole = 0
    """Seed of the directions, which differ from image to image."""

    def __post_init__(self) -> None:
        if not self.enabled:
            refuse_idle(self, "evaluations", "step", "seed", needs="enabled=True")


Method = Literal["latent-shift", "iterated", "latent-cf", "pixels", "completion", "auto"]
OF_A_WALK: tuple[Method, ...] = ("latent-shift", "iterated", "latent-cf", "pixels")
"""Methods that follow gradients."""
ON_RAYS: tuple[Method, ...] = ("latent-shift", "completion")
"""Methods that walk along a straight line: one search along it, and no steps."""


@options()
class DescentOptions:
    """How the methods that take many steps (``iterated``, ``latent-cf``, ``pixels``) take them."""

    step: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """Length of a step (of an optimiser: its first one) as a share of ‖z0‖. By default 0.05, and 0.01 in pixels."""
    max_steps: Count = 100
    """Steps per counterfactual, each one decoder forward with its backward pass."""
    optimiser: Literal["adam", "gradient"] = "adam"
    """Of ``latent-cf`` and ``pixels``: Adam, or plain gradient descent at a constant rate."""
    distance_weight: Annotated[float, Field(ge=0, le=1e9)] = 0.1
    """Of ``latent-cf`` and ``pixels``: weight of ‖z − z0‖² / ‖z0‖² beside ((value − aim) / (value0 − aim))² in their
    loss. It halves every 20 steps, so that the aim is met in the end."""


@options()
class SearchOptions:
    """How a counterfactual is searched. Scores are probabilities unless the base is a composition on probabilities."""

    drop: Annotated[float, Field(gt=0, le=10)] = 0.6
    """Requested drop of the base score."""
    floor: Annotated[float, Field(gt=-100, le=1)] = 0.05
    """Score aimed at where the start is too low for the drop."""
    tolerance: Annotated[float, Field(gt=0, le=1)] = 0.01
    """A search lands when the score is within this of its aim (``refined``)."""
    off_drop: Annotated[float, Field(gt=0, le=10)] = 0.85
    """Drop at which an attribute counts as switched off: effects are read there, further along the same ray."""
    eligible: Annotated[float, Field(gt=-100, le=100)] = 0.5
    """Only images with at least this base score at x0 get a counterfactual."""
    strategy: Literal["refined", "schedule"] = "refined"
    """``refined`` brackets the aim and closes in on it; ``schedule`` takes the authors' own steps."""
    max_evaluations: Count = 20
    """Decoder forwards per counterfactual (``refined``)."""
    max_distance: Annotated[float, Field(gt=0, le=1e9)] = 4.0
    """Bound on the latent distance, in multiples of ‖z0‖ (``refined``)."""
    max_lambda: Annotated[float, Field(gt=0, le=1e12)] = 500_000.0
    """Bound on λ (``schedule``)."""
    max_image_change: Positive | None = None
    """Bound on Σ|x0 − x_λ| / Σ|x0|; ``schedule`` uses 0.05 when this is None."""
    method: Method = "latent-shift"
    """``latent-shift``: one direction, the gradient at z0 (the paper's). ``iterated``: the gradient is taken anew after
    every step. ``latent-cf``: z is optimised. ``pixels``: the image itself is, without the autoencoder. ``completion``:
    the smallest region that switches the base off is filled with what images of the kind have there; for objects.
    ``auto``, of audits and banks: ``latent-shift`` or ``completion``, per base, whichever the judge follows further."""
    residual: Residual | None = None
    """What becomes of the part of an image that the autoencoder cannot draw. ``gated``: it stays, but where the walk
    changes the picture. ``kept``: it stays everywhere. With both, walks start at the image itself. ``dropped``: they
    start at the reconstruction (the paper's). By default ``gated``, unless the autoencoder says otherwise; the embedded
    one draws all of a face: ``dropped``."""
    metric: MetricName | None = None
    """In which metric a walk goes down. ``latent``: that of the latent (the paper's). ``data``: that of the differences
    between images, so that a step goes where images really differ (z_λ = z0 − λ Σ ∂s/∂z, Σ the covariance of latents).
    By default ``latent``, unless the autoencoder was told how latents differ (``autoencoders.informed``)."""
    descent: DescentOptions = field(default_factory=DescentOptions)
    """Of the methods in steps. All methods but ``latent-shift`` search with ``refined`` only."""

    def __post_init__(self) -> None:
        if self.strategy == "schedule" and self.method != "latent-shift":
            raise BadInput(f"strategy: expected 'refined' with the method {self.method!r}, got 'schedule'.")
        if self.strategy != "schedule":
            refuse_idle(self, "max_lambda", needs="strategy='schedule'")

    @property
    def start(self) -> StartsAt:
        """What x0 is, of a search whose ``residual`` is settled."""
        assert self.residual is not None
        return StartsAt.of(self.residual)


def refuse_idle_descent(options: Any) -> None:
    """Raises BadInput where ``options.search`` sets how steps are taken, and its method does not take them so.

    Not a rule of ``SearchOptions``: ``counterfactuals(…, method=…)`` replaces the method of its options.
    """
    if options.search.method in ON_RAYS:
        refuse_idle(options, "search.descent", needs="search.method='iterated', 'latent-cf' or 'pixels'")
    if options.search.method == "iterated":
        of_optimisers = ("search.descent.optimiser", "search.descent.distance_weight")
        refuse_idle(options, *of_optimisers, needs="search.method='latent-cf' or 'pixels'")
