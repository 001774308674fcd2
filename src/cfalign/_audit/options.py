"""Settings of an audit or a bank."""

from __future__ import annotations

from dataclasses import dataclass, field

from cfalign._analysis.options import AlignmentOptions, EffectOptions
from cfalign._counterfactuals.options import EstimateOptions, SearchOptions
from cfalign._errors import BadInput


@dataclass(frozen=True)
class AuditOptions:
    """Settings of an audit or a bank; what changes a number is part of the run's identity."""

    limit: int = 200
    """Counterfactuals per base: the first so many images, in an order drawn by the seed, that it predicts positive."""
    batch: int = 64
    """Images per forward pass."""
    chunk: int = 64
    """Images per unit of work and shard."""
    seed: int = 0
    shown: int = 3
    """Images shown per finding and reading."""
    max_findings: int = 12
    both_ways: bool = True
    """Attributes are also raised, on as many images that lack them, for the effects."""
    min_effect: float = 0.1
    """A finding needs at least this |effect|."""
    search: SearchOptions = field(default_factory=SearchOptions)
    estimate: EstimateOptions = field(default_factory=EstimateOptions)
    """Whether and how black boxes become bases."""
    alignment: AlignmentOptions = field(default_factory=AlignmentOptions)
    effects: EffectOptions = field(default_factory=EffectOptions)

    def __post_init__(self) -> None:
        for name in ("limit", "batch", "chunk"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1, got {getattr(self, name)!r}.")
        for name in ("seed", "shown", "max_findings"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name} must be at least 0, got {getattr(self, name)!r}.")
        if self.estimate.enabled and self.search.method != "latent-shift":
            raise BadInput(
                f"Gradients of black boxes are estimated (--estimate) for the method latent-shift only, not for "
                f"{self.search.method}."
            )
        if not 0 <= self.min_effect <= 1:
            raise BadInput(f"min_effect must be between 0 and 1, got {self.min_effect!r}.")
