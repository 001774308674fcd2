"""Settings of an audit or a bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Any

from cfalign._analysis.options import AlignmentOptions, EffectOptions
from cfalign._counterfactuals.options import EstimateOptions, SearchOptions, refuse_idle_descent
from cfalign._discovery.options import DiscoveryOptions
from cfalign._errors import BadInput
from cfalign._models.device import refuse_absent
from cfalign._regions.options import RegionOptions
from cfalign._runs.run import residual_of
from cfalign._validation import Count, Device, Share, Whole, options

DECIDED_BY_THE_BANK = ("limit", "chunk", "both_ways", "search", "estimate")
"""Fields of ``AuditOptions`` that an audit of a bank cannot choose: its counterfactuals were made with them."""
NOT_READ_BY_A_BANK = (
    "estimate",
    "shown",
    "max_findings",
    "min_effect",
    "min_response",
    "alignment",
    "effects",
    "discovery",
    "regions",
)
"""Fields of ``AuditOptions`` that making a bank does not read: its heads are differentiable, and it concludes nothing.
"""


@options()
class AuditOptions:
    """Settings of an audit or a bank; what changes a number is part of the run's identity."""

    limit: Count = 200
    """Counterfactuals per base: the first so many images, in an order drawn by the seed, that it predicts positive."""
    batch: Count = 64
    """Images per forward pass."""
    chunk: Count = 64
    """Images per unit of work and shard."""
    seed: Whole = 0
    """Seed of every random draw."""
    shown: Whole = 3
    """Images shown per finding and reading; 0 keeps no image at all, nor those sorted by score."""
    max_findings: Whole = 12
    """Findings reported at most."""
    both_ways: bool = True
    """Attributes are also raised, on as many images that lack them, for the effects."""
    min_effect: Share = 0.1
    """A finding needs at least this |effect|."""
    min_response: Share = 0.15
    """Without a witness a finding needs responses of at least this size, both incoming and outgoing. With the default,
    none of 96 such findings on drawn faces was of an attribute that the head does not use."""
    search: SearchOptions = field(default_factory=SearchOptions)
    estimate: EstimateOptions = field(default_factory=EstimateOptions)
    """Whether and how black boxes become bases."""
    alignment: AlignmentOptions = field(default_factory=AlignmentOptions)
    effects: EffectOptions = field(default_factory=EffectOptions)
    discovery: DiscoveryOptions = field(default_factory=DiscoveryOptions)
    """Unnamed features; none are sought by default."""
    regions: RegionOptions = field(default_factory=RegionOptions)
    """Where in the image effects lie; they are not split by default."""
    device: Device | None = None
    """Where the models work: cpu, cuda, cuda:1, mps, or auto for the accelerator of this machine; by default where they
    lie. No part of the run's identity."""

    @property
    def without_gradients(self) -> bool:
        """Whether black boxes may be bases."""
        return self.estimate.enabled or self.search.method == "completion"

    def __post_init__(self) -> None:
        refuse_idle_descent(self)
        refuse_absent(self.device)
        if self.estimate.enabled and self.search.method != "latent-shift":
            raise BadInput(
                "search.method: expected 'latent-shift' where gradients of black boxes are estimated (--estimate), got "
                f"{self.search.method!r}."
            )


def differing_from_bank(options: AuditOptions, made: Mapping[str, Any]) -> list[str]:
    """Names of settings that are neither the default nor the bank's own, and that its audit cannot choose.

    ``made``: the settings in the bank's ``run.json``. Settings of a group have dotted names, such as ``search.drop``.
    """
    chosen, plain = (_flat(asdict(o), DECIDED_BY_THE_BANK) for o in (options, AuditOptions()))
    banked = {"search.residual": residual_of(made), **_flat(made, DECIDED_BY_THE_BANK)}
    return [name for name, value in chosen.items() if value not in (plain[name], banked.get(name, plain[name]))]


def _flat(settings: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The named settings, those of groups with dotted names."""
    flat: dict[str, Any] = {}
    for name in names:
        value = settings.get(name)
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": inner for key, inner in _flat(value, tuple(value)).items()}
        elif name in settings:
            flat[name] = value
    return flat
