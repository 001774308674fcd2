"""What a run finds worth a person's look, and which witnesses it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Witness(StrEnum):
    """Who tells how much of the audited head's own concept, and of an attribute, there is in an image."""

    JUDGE = "judge"
    """A classifier that no counterfactual was made against, independent of the audited one."""
    HEADS = "second heads"
    """Heads of another network than the audited one, which the counterfactuals were made against."""
    NONE = "none"
    """Nobody but the audited network itself, so that its effects are unknown."""
    UNKNOWN = "not recorded"
    """The run was written before witnesses were recorded."""


@dataclass(frozen=True)
class Standing:
    """What the effects of an audited head rest on; by head in ``run.json``."""

    witness: Witness
    reason: str = ""
    """Why there is none, or what to bear in mind."""
    remedy: str = ""
    """How to get one."""
    reach: float = 1.0
    """The largest change that its score can make."""
    concept: str = ""
    """The target that the head is about: of a composition, its first; empty in runs of older versions."""

    def about(self, attribute: str) -> bool:
        """Whether an attribute, by its label, is the head's own concept."""
        return bool(self.concept) and attribute in (self.concept, f"{attribute.rpartition(':')[0]}:{self.concept}")


@dataclass(frozen=True)
class Sample:
    """One image behind a finding."""

    image_id: str
    base: str
    downstream: str
    psi: float
    base_before: float
    base_after: float
    downstream_before: float
    downstream_after: float
    files: Mapping[str, str]
    """``original``, ``reconstruction``, ``counterfactual``: paths relative to the run directory."""


class FindingKind(StrEnum):
    """What a finding says."""

    EFFECT = "effect"
    """What switching an attribute does to the audited head."""
    JOINT = "joint effect"
    """What switching attributes together does that cannot be told apart."""
    RESPONSE = "response"
    """How the head answers the counterfactuals of an attribute, whatever the cause: its concept has no witness."""


@dataclass(frozen=True)
class Finding:
    """A number worth a person's look: clear, of at least ``min_effect``, and not of the head's own concept."""

    rank: int
    """Judged effects come first, then those that rest on second heads, then responses; of each the largest first."""
    audited: str
    attribute: str
    """The attribute, or of a joint effect all members of the group."""
    effect: float
    """NaN of a response."""
    ci_low: float
    ci_high: float
    q: float
    """Of the effect, or of a response that of its incoming reading."""
    incoming: float
    null: float
    """The incoming reading of the control: steps as long in random directions instead of the counterfactuals."""
    outgoing: float
    n: int
    samples: tuple[Sample, ...] = field(repr=False)
    kind: FindingKind = FindingKind.EFFECT
    witness: Witness = Witness.UNKNOWN
    """What the number rests on."""
    members: tuple[str, ...] = ()
    """The attributes of a joint effect."""
    change: float = float("nan")
    """Of a response: mean change of the audited score when the attribute is taken off."""
    change_low: float = float("nan")
    change_high: float = float("nan")
    """95 % bootstrap interval over the images."""

    @property
    def size(self) -> float:
        """|effect|, or of a response |change|."""
        return abs(self.change if self.kind is FindingKind.RESPONSE else self.effect)


@dataclass(frozen=True)
class Shown:
    """One image of the tested half, and where it lies along a feature."""

    image_id: str
    position: float
    """In standard deviations of the images along the feature."""
    score: float
    """The audited head's, on x0."""
    files: Mapping[str, str]
    """``original``, and of walked ones ``low`` and ``high``: paths relative to the run directory."""


@dataclass(frozen=True)
class UnnamedFeature:
    """A direction of the latent space, shared by images, along which an audited head changes and no known one explains
    why. It was found on one half of the images, and every number but ``told`` and ``agreement`` was measured on the
    other half. Undefined numbers are NaN.
    """

    audited: str
    number: int
    """1 for the first feature of the head."""
    effect: float
    """Mean change of the audited score (a probability) from the low end of the feature to the high end, less ``named``.
    """
    ci_low: float
    ci_high: float
    """95 % bootstrap interval of the effect over images, or over people."""
    whole: float
    """The whole mean change."""
    named: float
    """The part of it that the known heads' own changes along the walk explain."""
    chance: float
    """Standard deviation of the same effect of random directions."""
    p: float
    q: float
    """Benjamini-Hochberg over all features of the run."""
    n: int
    """Images that were walked."""
    found_on: int
    """Images that it was found on."""
    unexplained: float
    """Share of the variance of the head's logit that the known heads leave unexplained."""
    explains: float
    """Share of that which the feature explains; NaN where nothing is left."""
    told: float
    """Share of it that the direction of answers predicts on images left out."""
    agreement: float
    """Cosine between the direction of answers and that of looks."""
    found: bool
    """Whether it counts: more than chance, and large enough in what it does (``effect``) and explains."""
    along: Mapping[str, float] = field(default_factory=dict, repr=False)
    """Mean change of every known attribute's score along the walk, the largest first."""
    lowest: tuple[Shown, ...] = field(default=(), repr=False)
    highest: tuple[Shown, ...] = field(default=(), repr=False)
    walked: tuple[Shown, ...] = field(default=(), repr=False)
    difference: str = ""
    """A picture of the mean absolute difference between both ends of the walks: its path."""
    free: float = float("nan")
    """Directions of the latent space that the known heads leave free; ``p`` and ``q`` are NaN where they are fewer than
    3. NaN in runs of older versions."""
    reason: str = ""
    """Why ``p`` and ``q`` are NaN, where they are for want of free directions."""


@dataclass(frozen=True)
class RegionShare:
    """How much of what an attribute does to an audited head lies in one region of the image; a row of ``regions.csv``.

    Regions interact, so two shares are given. All shares are NaN where the whole is not clear.
    """

    audited: str
    attribute: str
    """Whose counterfactuals they are: an attribute, the audited head itself, or ``unnamed 1``."""
    region: str
    whole: float
    """Change of the audited score per change of the attribute's own, ΣΔ / ΣΔ; of an unnamed feature its effect."""
    whole_low: float
    whole_high: float
    inside: float
    """Share of it when nothing but this region changes."""
    inside_low: float
    inside_high: float
    lost: float
    """Share of it that is lost when everything but this region changes."""
    lost_low: float
    lost_high: float
    n: int
    """Counterfactuals."""


@dataclass(frozen=True)
class Ranked:
    """One image, and the score that an audited head gives it."""

    image_id: str
    score: float
    """On the image itself; a probability, or what a composition makes of some."""
    file: str
    """Its thumbnail: a path relative to the run directory."""


@dataclass(frozen=True)
class SortedImages:
    """Some images of a run in the order of their score by one audited head, each row by rising score."""

    audited: str
    n: int
    """Images that were sorted."""
    lowest: tuple[Ranked, ...]
    middle: tuple[Ranked, ...]
    """Around the median."""
    highest: tuple[Ranked, ...]
