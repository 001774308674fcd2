"""Settings of the numbers that an audit concludes with."""

from __future__ import annotations

from dataclasses import dataclass

from cfalign._errors import BadInput


@dataclass(frozen=True)
class AlignmentOptions:
    """How relative changes become cells."""

    min_base_change: float = 0.3
    """ψ is undefined where |Δbase| is below this."""
    resamples: int = 1000
    """Bootstrap resamples of the images."""
    draws: int = 2000
    """Draws of the exchange test against the null."""

    def __post_init__(self) -> None:
        if not 0 < self.min_base_change < 1:
            raise BadInput(f"min_base_change must be between 0 and 1, got {self.min_base_change!r}.")
        if self.resamples < 100 or self.draws < 100:
            raise BadInput("resamples and draws must be at least 100.")


@dataclass(frozen=True)
class EffectOptions:
    """How effects are unmixed."""

    misfit: float = 0.03
    """What attributes usually leave unexplained of a response (standard deviation), before the data speak."""
    misfit_weight: float = 20.0
    """How many attributes' worth of evidence that is."""
    samples: int = 2000
    """Draws from the posterior of the effects."""
    switch_error: float = 0.2
    """Relative error (standard deviation) of how far counterfactuals switch an attribute; intervals are wider by it.
    The default is what planted classifiers show (``cfalign benchmark detection``)."""
    ridge: float = 0.05
    """Penalty on Σ e² of the linear solution that is tested against the null."""
    draws: int = 2000
    """Draws of the exchange test against the null."""

    def __post_init__(self) -> None:
        for name in ("misfit", "misfit_weight", "ridge"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} must be above 0, got {getattr(self, name)!r}.")
        if not self.switch_error >= 0:
            raise BadInput(f"switch_error must be at least 0, got {self.switch_error!r}.")
        for name in ("samples", "draws"):
            if not getattr(self, name) >= 100:
                raise BadInput(f"{name} must be at least 100, got {getattr(self, name)!r}.")
