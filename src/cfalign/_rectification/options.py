"""Settings of a rectification."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from cfalign._counterfactuals.options import SearchOptions, refuse_idle_descent
from cfalign._errors import BadInput
from cfalign._models.device import refuse_absent
from cfalign._validation import Count, Device, Draws, ShareBelowOne, Whole, options, refuse_idle

STEPS = {"secant": 12, "momentum": 1000}
_OF_MOMENTUM = ("learning_rate", "momentum", "minibatch", "check_every")
_Part = Annotated[float, Field(gt=0, lt=1)]
_Small = Annotated[float, Field(gt=0, le=1)]


@options()
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
    limit: Count = 300
    """Images are read, in an order drawn by the seed, until the target predicts so many positive."""
    train: _Part = 0.5
    """Share of the images that β is fitted on."""
    validation: _Part = 0.2
    """Share that chooses among the β seen; the rest is the held-out test."""
    steps: Count | None = None
    """Most β evaluated (``secant``, 12) or updated (``momentum``, 1000)."""
    tolerance: _Small = 0.01
    """Done when the mean |ψ| is below this."""
    patience: Count = 4
    """Stop after so many looks at the validation images without a better |ψ|."""
    min_images: Count = 8
    """Fewest counterfactuals that count, in each of training, validation and test."""
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.001
    """η (``momentum``)."""
    momentum: ShareBelowOne = 0.1
    """m (``momentum``)."""
    minibatch: Count = 10
    """Images per update (``momentum``)."""
    check_every: Count = 25
    """Updates between looks at the validation images (``momentum``)."""
    blind: _Small = 0.05
    """Where |ψ| starts below this and |logit ψ| above twice this, logit ψ is driven to zero instead (``secant``)."""
    seed: Whole = 0
    """Seed of the parts and of every random draw."""
    batch: Count = 64
    """Images per forward pass."""
    resamples: Draws = 1000
    """Bootstrap resamples of the test images."""
    search: SearchOptions = field(default_factory=SearchOptions)
    device: Device | None = None
    """Where the models work: cpu, cuda, cuda:1, mps, or auto for the accelerator of this machine; by default where they
    lie."""

    def __post_init__(self) -> None:
        refuse_absent(self.device)
        shares = self.train, self.validation
        if sum(shares) >= 1:
            raise BadInput(f"train, validation: expected shares that leave a rest for the test, got {shares!r}.")
        if self.reading == "incoming" and self.solver != "secant":
            raise BadInput(f"solver: expected 'secant' with the incoming reading, got {self.solver!r}.")
        if self.solver == "secant":
            refuse_idle(self, *_OF_MOMENTUM, needs="solver='momentum'")
        else:
            refuse_idle(self, "blind", needs="solver='secant'")
        self._check_search()

    def _check_search(self) -> None:
        """Raises BadInput for a search that a rectification cannot make."""
        if self.search.strategy != "refined":
            raise BadInput(f"search.strategy: expected 'refined' in a rectification, got {self.search.strategy!r}.")
        if self.search.method != "latent-shift":
            raise BadInput(f"search.method: expected 'latent-shift' in a rectification, got {self.search.method!r}.")
        if (bound := self.search.max_image_change) is not None:
            raise BadInput(f"search.max_image_change: expected none in a rectification, got {bound!r}.")
        refuse_idle_descent(self)
        if not self.incoming:
            refuse_idle(self, "search.off_drop", needs="the incoming reading")

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
