"""The values of a comparison of two runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cfalign._analysis.differences import Estimate
from cfalign._audit.comparability import Matched, Mismatch
from cfalign._runs.codec import plain

_NAN = float("nan")


class ChangeKind(StrEnum):
    """What is compared; the first three as in ``FindingKind``."""

    EFFECT = "effect"
    JOINT = "joint effect"
    RESPONSE = "response"
    UNNAMED = "unnamed feature"
    GAP = "group gap"
    """Compared where both runs looked at the same images. A gap follows from effects, so none makes a command fail."""


class Status(StrEnum):
    """What became of an effect. "Beyond chance": q of the difference < 0.05, a 95 % interval of it that excludes zero,
    and at least ``min_difference`` in size.
    """

    APPEARED = "appeared"
    """Clear after, and not before, or with the other sign; the difference is beyond chance."""
    GONE = "gone"
    """Clear before and not after; the difference is beyond chance."""
    GREW = "grew"
    """Clear in both, and larger in size beyond chance."""
    SHRANK = "shrank"
    """Clear in both, and smaller in size beyond chance."""
    UNCHANGED = "unchanged"
    """No difference beyond chance."""
    ONLY_BEFORE = "only before"
    ONLY_AFTER = "only after"
    UNDEFINED = "undefined"
    """A run has no number for it."""


@dataclass(frozen=True)
class Reading:
    """A number in one run; NaN, with n = 0, where it has none."""

    value: float
    ci_low: float
    ci_high: float
    n: int
    """Counterfactuals; of a group gap images."""
    q: float
    """NaN of gaps and of sums of effects."""
    clear: bool
    """Whether it is more than chance in this run."""

    @property
    def estimate(self) -> Estimate:
        """Without what it rests on."""
        return Estimate(self.value, self.ci_low, self.ci_high)


NOTHING = Reading(_NAN, _NAN, _NAN, 0, _NAN, clear=False)


@dataclass(frozen=True)
class Change:
    """An audited head and an attribute in both runs. Undefined numbers are NaN, and ``reason`` says why."""

    status: Status
    kind: ChangeKind
    audited: str
    """As the run after calls it; that before where it is there only. So is the attribute."""
    attribute: str
    """The attribute, all members of a group, or ``unnamed 1``."""
    before: Reading
    after: Reading
    difference: float
    """after − before."""
    ci_low: float
    ci_high: float
    q: float
    """Benjamini-Hochberg over all compared differences, those of gaps among themselves."""
    own: bool
    """Whether the attribute is what the audited head is meant to see."""
    reason: str = ""

    @property
    def relation(self) -> str:
        """``audited -> attribute``."""
        return f"{self.audited} -> {self.attribute}"

    @property
    def may_fail(self) -> bool:
        """Whether a command may fail for it: not for its own concept, nor for a gap, which follows from effects."""
        return not self.own and self.kind is not ChangeKind.GAP


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side."""

    before: str
    """The folder of the run, as ``after``."""
    after: str
    changes: tuple[Change, ...]
    """In the order of ``Status``, of each the largest difference first."""
    heads: tuple[Matched, ...]
    """Which audited heads were held against each other."""
    mismatches: tuple[Mismatch, ...]
    """What else differs between the runs, what is grave first."""
    same_classifiers: bool
    """Whether the audited classifiers are the same, so that every difference comes from something else."""
    min_difference: float
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many changes have each status."""

    @property
    def comparable(self) -> bool:
        """Whether the numbers of both runs mean the same."""
        return not any(one.grave for one in self.mismatches)

    def of(self, *statuses: Status) -> tuple[Change, ...]:
        """The changes of some statuses, in their order."""
        return tuple(c for c in self.changes if c.status in statuses)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it: an undefined number is None."""
        found: dict[str, Any] = {**plain(self), "comparable": self.comparable}
        return found

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {status}" for status, n in self.counts.items())
        return f"Comparison({self.before!r}, {self.after!r}: {counts or 'nothing measured'})"
