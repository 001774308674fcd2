"""Differences between two estimates of which only means and 95 % intervals are known, and sums of estimates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import norm

_Z = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; NaN where there is none."""

    value: float
    ci_low: float
    ci_high: float

    @property
    def known(self) -> bool:
        """Whether all three are finite."""
        return all(map(math.isfinite, (self.value, self.ci_low, self.ci_high)))

    @property
    def below(self) -> float:
        """How far the interval reaches below the value, ≥ 0."""
        return max(0.0, self.value - self.ci_low)

    @property
    def above(self) -> float:
        """How far the interval reaches above the value, ≥ 0."""
        return max(0.0, self.ci_high - self.value)


@dataclass(frozen=True)
class Difference(Estimate):
    """after − before."""

    p: float
    """Two-sided: 0.05 where an end of the interval is zero. NaN where the interval is."""


UNKNOWN = Difference(float("nan"), float("nan"), float("nan"), float("nan"))


def difference(before: Estimate, after: Estimate, *, shared: float = 0.0) -> Difference:
    """after − before with a 95 % interval, of two estimates that err independently.

    The ends are found from those of both intervals, which need not be symmetric (Zou and Donner 2008). Estimates that
    err alike have a smaller difference than that, so for them the interval is too wide, never too narrow.

    ``shared``: standard deviation, relative to the value, of an error that both estimates hold, and that is the same
    factor in both, such as how far an attribute is switched. It is taken out of both and counts once, of the
    difference. NaN where an estimate has no interval.

    >>> d = difference(Estimate(0.1, 0.0, 0.2), Estimate(0.5, 0.4, 0.6))
    >>> round(d.value, 3), round(d.ci_low, 3), round(d.ci_high, 3)
    (0.4, 0.259, 0.541)
    """
    if not (before.known and after.known):
        return UNKNOWN
    value = after.value - before.value
    common = _Z * shared * abs(value)
    low = math.hypot(_own(after.below, after, shared), _own(before.above, before, shared), common)
    high = math.hypot(_own(after.above, after, shared), _own(before.below, before, shared), common)
    reach = low if value > 0 else high
    if value == 0:
        p = 1.0
    else:
        p = 2 * float(norm.sf(_Z * abs(value) / reach)) if reach > 0 else 0.0
    return Difference(value, value - low, value + high, p)


def _own(reach: float, estimate: Estimate, shared: float) -> float:
    """What is left of the reach of an interval without the shared error."""
    return math.sqrt(max(0.0, reach**2 - (_Z * shared * estimate.value) ** 2))


def summed(parts: Sequence[Estimate], signs: Sequence[int]) -> Estimate:
    """Σ sign · part with a 95 % interval, of estimates that err independently; NaN where one has no interval.

    >>> summed([Estimate(0.3, 0.27, 0.33), Estimate(0.2, 0.16, 0.24)], [1, -1]).ci_high
    0.15
    """
    if not all(part.known for part in parts):
        return UNKNOWN
    turned = [
        part if sign > 0 else Estimate(-part.value, -part.ci_high, -part.ci_low)
        for part, sign in zip(parts, signs, strict=True)
    ]
    value = math.fsum(p.value for p in turned)
    low, high = math.hypot(*(p.below for p in turned)), math.hypot(*(p.above for p in turned))
    return Estimate(value, value - low, value + high)
