"""Settings of the numbers that an audit concludes with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cfalign._validation import Draws, NotNegative, Positive, options


@options()
class AlignmentOptions:
    """How relative changes become cells."""

    min_base_change: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """ψ is undefined where |Δbase| is below this."""
    resamples: Draws = 1000
    """Bootstrap resamples of the images."""
    draws: Draws = 2000
    """Draws of the exchange test against the null."""


@options()
class EffectOptions:
    """How effects are unmixed."""

    misfit: Positive = 0.03
    """What attributes usually leave unexplained of a response (standard deviation), before the data speak."""
    misfit_weight: Positive = 20.0
    """How many attributes' worth of evidence that is."""
    samples: Draws = 2000
    """Draws from the posterior of the effects."""
    switch_error: NotNegative = 0.2
    """Relative error (standard deviation) of how far counterfactuals switch an attribute; intervals are wider by it.
    The default is what planted classifiers show (``cfalign benchmark detection``)."""
    ridge: Positive = 0.05
    """Penalty on Σ e² of the linear solution that is tested against the null."""
    draws: Draws = 2000
    """Draws of the exchange test against the null."""
