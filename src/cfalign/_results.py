"""What the stages hand to one another and to the user: frozen, typed; a number that is undefined is NaN."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cfalign._findings import Finding, Standing
from cfalign._notebook import ShownWalks

Floats = NDArray[np.float64]
ALPHA = 0.05
"""The level of every decision: the largest q of what counts as clear."""


class Outcome(StrEnum):
    """Why the search for one counterfactual stopped."""

    REACHED = "reached"
    """The requested drop, within the tolerance."""
    FLOOR = "floor"
    """The start was too low for the requested drop; the floor score was met instead."""
    TURNED = "turned"
    """The score began to rise again, or would not fall further, before the drop was met."""
    IMAGE_LIMIT = "image_limit"
    """The image had changed as much as it was allowed to."""
    LAMBDA_LIMIT = "lambda_limit"
    """The bound on λ, on the latent distance, on evaluations or on steps came first."""
    FLAT = "flat"
    """The gradient is zero: there is no direction to walk in."""
    NOT_FINITE = "not_finite"
    """A score, gradient or image was NaN or infinite."""
    NOT_ELIGIBLE = "not_eligible"
    """The base does not predict this image positive, so no counterfactual is made."""

    @property
    def landed(self) -> bool:
        """Whether the search met what it aimed at."""
        return self in (Outcome.REACHED, Outcome.FLOOR)

    @property
    def walked(self) -> bool:
        """Whether there is a counterfactual image at all."""
        return self not in (Outcome.FLAT, Outcome.NOT_FINITE, Outcome.NOT_ELIGIBLE)


class StartsAt(StrEnum):
    """What x0 is, where walks start and from which every change is measured."""

    IMAGE = "image"
    """The image x itself: its residual, what the autoencoder cannot draw of it, stays."""
    RECONSTRUCTION = "reconstruction"
    """D(E(x)): the residual is dropped."""

    @classmethod
    def of(cls, residual: str) -> StartsAt:
        """Where the setting ``search.residual`` lets walks start.

        >>> str(StartsAt.of("gated")), str(StartsAt.of("kept")), str(StartsAt.of("dropped"))
        ('image', 'image', 'reconstruction')
        """
        return cls.RECONSTRUCTION if residual == "dropped" else cls.IMAGE

    @property
    def picture(self) -> str:
        """What the picture of x0 is called."""
        return "original" if self is StartsAt.IMAGE else "reconstruction"

    @property
    def pictures(self) -> tuple[str, ...]:
        """What the pictures of a strip are called: x, x0 where it is another one, x_λ."""
        return (*dict.fromkeys(("original", self.picture)), "counterfactual")


@dataclass(frozen=True)
class Counterfactuals(ShownWalks):
    """One counterfactual per (image, base) pair, every pair present, in the order given.

    Pairs without a counterfactual (``not_eligible``, ``flat``, ``not_finite``) keep x0 as image and have NaN
    ``lambdas``.
    """

    images: Tensor
    """x_λ [n, c, h, w] in [0, 1]."""
    reconstructions: Tensor
    """x0, where the walks start, [n, c, h, w]: D(E(x)), or x itself where its residual stays (``residual`` is not
    ``dropped``) and for the method ``pixels``."""
    lambdas: Floats
    """λ in units of the gradient of the base *score* (Eq. 1), ≥ 0; NaN where there is no counterfactual, and for every
    method but ``latent-shift``."""
    distances: Floats
    """‖z_λ − z_0‖; ‖x_λ − x0‖ for the method ``pixels``."""
    outcomes: tuple[Outcome, ...]
    evaluations: NDArray[np.int64]
    """Decoder forwards that the search spent."""
    base_before: Floats
    """Base score (a probability unless the base is a composition on probabilities) at x0."""
    base_after: Floats
    image_change: Floats
    """Σ|x0 − x_λ| / Σ|x0|."""
    backwards: NDArray[np.int64]
    """Backward passes through the decoder, each with a forward; that at z0 is not among the ``evaluations``."""
    logits: Tensor | None = None
    """Of all heads of the base's classifiers at x_λ, [n, head], NaN where x_λ is x0; None for methods in steps."""

    def __len__(self) -> int:
        return len(self.outcomes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{self.outcomes.count(o)} {o.value}" for o in Outcome if o in self.outcomes)
        return f"Counterfactuals({len(self)}: {counts or 'none'})"


@dataclass(frozen=True)
class Cell:
    """One (base, downstream) cell of the alignment matrix; a row of ``matrix.csv``. All numbers are NaN when n is 0."""

    base: str
    downstream: str
    psi: float
    """Mean over images of the relative change (Eq. 3)."""
    ratio_of_means: float
    """ΣΔdownstream / ΣΔbase."""
    median: float
    psi_logit: float
    """Mean relative change on standardised logits; NaN when a composition has no logit."""
    ci_low: float
    ci_high: float
    n: int
    """Images that the cell rests on."""
    excluded: int
    """Counterfactuals that do not count, e.g. |Δbase| below ``min_base_change``."""
    p: float
    q: float
    """Benjamini-Hochberg over all off-diagonal cells; NaN on the diagonal."""

    @property
    def clear(self) -> bool:
        """Whether ψ is more than chance: q < ``ALPHA`` and an interval that excludes zero. False where one is NaN."""
        return self.q < ALPHA and excludes_zero(self.ci_low, self.ci_high)


@dataclass(frozen=True)
class Effect:
    """What changing one attribute does to one audited head; a row of ``effects.csv``."""

    audited: str
    attribute: str
    effect: float
    """Mean change of the audited score when the attribute is switched from absent to present, by unmixing the incoming
    reading; NaN where the audited head's concept has no witness, or the attribute no counterfactual."""
    ci_low: float
    ci_high: float
    incoming: float
    """ΣΔaudited / ΣΔattribute over the counterfactuals of the attribute."""
    outgoing: float
    """Mean relative change of the attribute's head over the counterfactuals of the audited head; NaN without them."""
    n: int
    """Counterfactuals of the attribute that the incoming reading rests on."""
    q: float

    @property
    def clear(self) -> bool:
        """Whether the effect is more than chance, q < ``ALPHA`` and an interval that excludes zero, and has the sign of
        its own incoming reading. False where one is NaN, but for the reading.
        """
        known = self.q < ALPHA and excludes_zero(self.ci_low, self.ci_high)
        return known and not contradicted(self.effect, self.incoming)

    @property
    def own(self) -> bool:
        """Whether the attribute is what the audited head is meant to see."""
        return own_concept(self.audited, self.attribute)


def excludes_zero(ci_low: float, ci_high: float) -> bool:
    """Whether zero lies outside an interval. False where an end is NaN.

    >>> excludes_zero(0.1, 0.3), excludes_zero(-0.1, 0.3), excludes_zero(float("nan"), 0.3)
    (True, False, False)
    """
    return ci_low <= ci_high and (ci_low > 0 or ci_high < 0)


def contradicted(effect: float, incoming: float) -> bool:
    """Whether the incoming reading has the opposite sign. False where either is NaN.

    >>> contradicted(0.2, -0.1), contradicted(0.2, 0.1), contradicted(0.2, float("nan"))
    (True, False, False)
    """
    return effect * incoming < 0


def own_concept(audited: str, attribute: str) -> bool:
    """Whether the attribute is what the audited head is meant to see: the same target in another classifier."""
    return audited.rpartition(":")[2] == attribute.rpartition(":")[2]


_MEMBER = re.compile(r"(not )?('(?:[^']|'')*'|[^&]+?)(?: & |$)")


def joint_name(members: Iterable[tuple[str, bool]]) -> str:
    """What switches together as one text, from (attribute, whether it is there): a name with ``&`` stands in quotes.

    >>> joint_name([("male", True), ("no_beard", False), ("ears & chin", True)])
    "male & not no_beard & 'ears & chin'"
    """
    parts = []
    for name, there in members:
        quoted = name.replace("'", "''")
        parts.append(("" if there else "not ") + (f"'{quoted}'" if "&" in name or name[:1] == "'" else name))
    return " & ".join(parts)


def joint_members(text: str) -> tuple[tuple[str, bool], ...]:
    """The members that ``joint_name`` made the text from, or the one attribute that it is."""
    found = [(name, not absent) for absent, name in _MEMBER.findall(text)]
    return tuple((name[1:-1].replace("''", "'") if name[:1] == "'" else name, there) for name, there in found)


@dataclass(frozen=True)
class JointEffect:
    """What switching a group of attributes together does to an audited head; a row of ``joint.csv``.

    The members cannot be told apart on these images. Undefined numbers are NaN.
    """

    audited: str
    attributes: str
    """The members, such as ``heavy_makeup & wearing_lipstick`` or ``male & not no_beard``."""
    effect: float
    ci_low: float
    ci_high: float
    incoming: float
    """Mean of the members' incoming readings, each with its sign in the group."""
    n: int
    """Counterfactuals of all members."""
    q: float
    """Among the joint effects."""

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the attributes."""
        return tuple(name for name, _ in joint_members(self.attributes))

    @property
    def clear(self) -> bool:
        """Whether the effect is more than chance, as of ``Effect``."""
        known = self.q < ALPHA and excludes_zero(self.ci_low, self.ci_high)
        return known and not contradicted(self.effect, self.incoming)


@dataclass(frozen=True)
class GroupGap:
    """How differently an audited head answers images with an attribute and images without; a row of ``gaps.csv``.

    Undefined numbers are NaN: all but ``observed`` where no effect is known, all where a group is empty.
    """

    audited: str
    attribute: str
    gap: float
    """What the effects explain of the difference, but for the head's own concept: ``direct`` + ``indirect``."""
    ci_low: float
    ci_high: float
    direct: float
    """The attribute's own effect."""
    indirect: float
    """Through other attributes that the head uses and that go along with this one on these images."""
    observed: float
    """Mean score of the images with the attribute minus that of the others, whatever it comes from."""
    n_with: int
    n_without: int
    through: str
    """The largest parts of ``indirect``, such as ``wearing_lipstick +0.21; rosy_cheeks +0.05``."""

    @property
    def clear(self) -> bool:
        """Whether the interval of the gap excludes zero. False where it is NaN."""
        return excludes_zero(self.ci_low, self.ci_high)

    @property
    def own(self) -> bool:
        """Whether the attribute is what the audited head is meant to see."""
        return own_concept(self.audited, self.attribute)


class RelationKind(StrEnum):
    """What is remarkable about a relation."""

    NOT_USED = "correlated_not_used"
    """The scores go together, |r| ≥ 0.3, and the interval of the effect lies within ± ``min_effect``."""
    UNCORRELATED = "used_uncorrelated"
    """A clear effect of at least ``min_effect``, though |r| < 0.1."""
    ASYMMETRIC = "asymmetric"
    """ψ differs between the two directions by at least 0.3, with intervals that do not meet."""


@dataclass(frozen=True)
class Relation:
    """An audited head and an attribute whose scores' correlation and whose use do not agree, or one of which uses the
    other and not the other way round.
    """

    kind: RelationKind
    audited: str
    attribute: str
    correlation: float
    """Pearson's r of the two scores on x0, over the images."""
    images: int
    """Those that it rests on."""
    effect: float
    ci_low: float
    ci_high: float
    q: float
    outgoing: float
    """ψ(audited → attribute)."""
    returning: float
    """ψ(attribute → audited), mean over images as ``outgoing`` is."""


@dataclass(frozen=True)
class Followed:
    """How far an independent judge follows the counterfactuals of one attribute."""

    judge_share: float
    """ΣΔjudge / ΣΔattribute: 1 wholly, 0 not at all; what is missing to 1 changed the reference head alone."""
    ci_low: float
    ci_high: float
    n: int
    """Counterfactuals, of both ways."""


@dataclass(frozen=True)
class Duplicate:
    """A head that answers every image as another one does: one concept under two names."""

    head: str
    of: str
    """The head that stands for both in findings."""
    complement: bool
    """Whether it is 1 − that head, as the two classes of a softmax are; otherwise a copy."""


@dataclass(frozen=True)
class Skipped:
    """An image that could not be loaded."""

    image_id: str
    reason: str
    """One line, without the path."""


@dataclass(frozen=True)
class Counts:
    """What a run looked at and what it cost; a part of ``run.json``."""

    controls: Mapping[str, Followed]
    """By attribute; empty without a judge."""
    outcomes: Mapping[str, Mapping[str, int]]
    """How many searches of each base ended how."""
    exclusions: Mapping[str, Mapping[str, int]]
    """How many counterfactuals of each base were left out of the matrix, by reason."""
    drift: Mapping[str, float]
    """Mean |score(x0) − score(x)| of each head; 0 where x0 is the image itself."""
    cost: Mapping[str, int | float]
    """Counterfactuals, decodes per counterfactual, passes through the decoder."""
    images: int
    """Those that were looked at."""
    skipped: tuple[Skipped, ...]
    duplicates: tuple[Duplicate, ...] = ()
    """Heads that are copies or complements of another one."""
    standings: Mapping[str, Standing] = field(default_factory=dict)
    """What the effects of each audited head rest on; empty in runs of older versions."""
    inseparable: tuple[str, ...] = ()
    """Groups of attributes that cannot be told apart on these images."""


@dataclass(frozen=True)
class Conclusions:
    """All that a run says: its matrix, effects, gaps, findings, relations and counts."""

    cells: tuple[Cell, ...]
    """Those of the bases of which at least one counterfactual counts; all others have n = 0."""
    effects: tuple[Effect, ...]
    gaps: tuple[GroupGap, ...]
    """Of every audited head and attribute."""
    findings: tuple[Finding, ...]
    """By rank."""
    relations: tuple[Relation, ...]
    """Kind by kind, the most remarkable first."""
    counts: Counts
    joint: tuple[JointEffect, ...] = ()
    """Of every audited head and group of attributes that cannot be told apart."""
