"""Settings of a rectification."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadInput

STEPS = {"secant": 12, "momentum": 1000}


@dataclass(frozen=True)
class RectificationOptions:
    """How β is found; what changes a number is here."""

    solver: Literal["secant", "momentum"] = "secant"
    """``secant``: root of mean ψ(β), composed on logits with centred, standardised shortcuts. ``momentum``: the
    paper's v ← η ψ + m v, β ← β − v, composed on probabilities."""
    reading: Literal["outgoing", "incoming"] | None = None
    """``outgoing``: ψ(f' → shortcut), the paper's. ``incoming``: ψ(shortcut → f'), the response of f' to the shortcut's
    own counterfactuals, walked until it counts as switched off; not in the paper, ``secant`` only, and a step costs
    nothing, for f' is a sum of scores at hand. By default incoming for ``secant``: where the truth is known it removes
    more of the shortcut's effect (``cfalign rectify --planted``); outgoing for ``momentum``."""
    limit: int = 300
    """Images are read, in an order drawn by the seed, until the target predicts so many positive."""
    train: float = 0.5
    """Share of the images that β is fitted on."""
    validation: float = 0.2
    """Share that chooses among the β seen; the rest is the held-out test."""
    steps: int | None = None
    """Most β evaluated (``secant``, 12) or updated (``momentum``, 1000)."""
    tolerance: float = 0.01
    """Done when the mean |ψ| is below this."""
    patience: int = 4
    """Stop after so many looks at the validation images without a better |ψ|."""
    min_images: int = 8
    """Fewest counterfactuals that count, in each of training, validation and test."""
    learning_rate: float = 0.001
    """η (``momentum``)."""
    momentum: float = 0.1
    """m (``momentum``)."""
    minibatch: int = 10
    """Images per update (``momentum``)."""
    check_every: int = 25
    """Updates between looks at the validation images (``momentum``)."""
    blind: float = 0.05
    """Where |ψ| starts below this and |logit ψ| above twice this, logit ψ is driven to zero instead (``secant``)."""
    seed: int = 0
    batch: int = 64
    """Images per forward pass."""
    resamples: int = 1000
    """Bootstrap resamples of the test images."""
    search: SearchOptions = field(default_factory=SearchOptions)

    def __post_init__(self) -> None:
        if self.solver not in STEPS:
            raise BadInput(f"solver must be 'secant' or 'momentum', got {self.solver!r}.")
        if self.reading not in ("outgoing", "incoming", None):
            raise BadInput(f"reading must be 'outgoing' or 'incoming', got {self.reading!r}.")
        if self.reading == "incoming" and self.solver != "secant":
            raise BadInput("The incoming reading goes with the solver 'secant' only.")
        for name in ("limit", "patience", "min_images", "minibatch", "check_every", "batch"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1, got {getattr(self, name)!r}.")
        if self.steps is not None and self.steps < 1:
            raise BadInput(f"steps must be at least 1, got {self.steps!r}.")
        if not (self.train > 0 and self.validation > 0 and self.train + self.validation < 1):
            raise BadInput(
                "train and validation must be above 0 and leave a rest for the test, got "
                f"{self.train!r} and {self.validation!r}."
            )
        for name, low, high in (("tolerance", 0, 1), ("learning_rate", 0, 100), ("blind", 0, 1)):
            if not low < getattr(self, name) <= high:
                raise BadInput(f"{name} must be above {low} and at most {high}, got {getattr(self, name)!r}.")
        if not 0 <= self.momentum < 1:
            raise BadInput(f"momentum must be at least 0 and below 1, got {self.momentum!r}.")
        if self.seed < 0 or self.resamples < 100:
            raise BadInput("seed must be at least 0 and resamples at least 100.")
        if self.search.strategy != "refined" or self.search.max_image_change is not None:
            raise BadInput("Rectification searches with the strategy 'refined' and without a bound on image change.")
        if self.search.method != "latent-shift":
            raise BadInput(f"Rectification makes its counterfactuals by latent-shift, not by {self.search.method}.")

    @property
    def incoming(self) -> bool:
        """Whether the incoming reading is driven to zero."""
        return self.reading == "incoming" or (self.reading is None and self.solver == "secant")

    @property
    def reading_name(self) -> str:
        """``incoming`` or ``outgoing``, the default resolved."""
        return "incoming" if self.incoming else "outgoing"

    @property
    def most_steps(self) -> int:
        """``steps``, or the solver's own number."""
        return STEPS[self.solver] if self.steps is None else self.steps

    @property
    def min_base_change(self) -> float:
        """ψ is undefined below this |Δbase|: the requested drop, within the search tolerance."""
        return self.search.drop - self.search.tolerance - 1e-9
