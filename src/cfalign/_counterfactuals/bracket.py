"""Where a ray crosses its aim: what its looks say of it, and where to look next.

Every pair is a row. A curve is known by its value and slope at z0 and by the looks nearest to the aim on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cfalign._counterfactuals.batch import Flags, Rows
from cfalign._results import Floats, Outcome

ROUNDING = 1e-5  # a value that rises by less has not turned: a plateau goes on
_TRUSTED = 3  # looks after which a cubic that has not landed is no model of the curve
_HALVINGS = 30  # of the part of a bracket where the cubic has its root


@dataclass(frozen=True)
class Looks:
    """What was seen of the rays, [look, row]; NaN where a row was not looked at."""

    distance: Floats
    value: Floats
    image_change: Floats

    @classmethod
    def joined(cls, parts: Sequence[Looks]) -> Looks:
        """The looks of all parts."""
        columns = ((part.distance, part.value, part.image_change) for part in parts)
        return cls(*(np.concatenate(column) for column in zip(*columns, strict=True)))

    def outwards(self) -> Looks:
        """Every row's looks in the order of their distance."""
        order = np.argsort(self.distance, axis=0, kind="stable")
        parts = (self.distance, self.value, self.image_change)
        return Looks(*(np.take_along_axis(part, order, axis=0) for part in parts))


class Bracket:
    """Per row: the near end, still above the aim, and the far end, below it or a wall that must not be passed."""

    def __init__(self, value: Floats, slope: Floats, aim: Floats) -> None:
        """``value`` and ``slope`` (how fast the value falls) at distance 0; a slope may be NaN: unknown."""
        self.first, self.slope, self.aim = value, slope, aim
        self.low, self.high = np.zeros_like(value), np.full_like(value, np.inf)
        self.at_low, self.at_high = value.copy(), np.full_like(value, np.nan)
        self.beyond, self.at_beyond = np.full_like(value, np.nan), np.full_like(value, np.nan)
        """The far end before this one."""
        self.rate = slope.copy()
        self.side = np.zeros(len(value), dtype=np.int64)
        """How often in a row the far end (below 0) or the near end (above 0) has moved."""
        self.looked = np.zeros(len(value), dtype=np.int64)
        """Looks taken in."""
        self.wall = np.full(len(value), None, dtype=object)

    def update(self, rows: Rows, t: Floats, value: Floats, inside: Flags) -> None:
        """Take in values at distances ``t``; ``inside``: where the image change is allowed."""
        below = inside & (value < self.aim[rows])
        open_end = np.isnan(self.at_high[rows])
        turned = inside & ~below & open_end & (value > self.at_low[rows] + ROUNDING)
        ahead = inside & ~below & ~turned
        for where, wall in ((turned, Outcome.TURNED), (~inside, Outcome.IMAGE_LIMIT)):
            self.high[rows[where]], self.at_high[rows[where]] = t[where], np.nan
            self.wall[rows[where]] = wall
        self.looked[rows] += 1
        self._move_far(rows[below], t[below], value[below])
        self._move_near(rows[ahead], t[ahead], value[ahead])

    def replay(self, looks: Looks, allowed: float) -> None:
        """Take in what earlier searches of the same rays have seen: of what lies behind a far end, nothing."""
        ordered = looks.outwards()
        for t, value, change in zip(ordered.distance, ordered.value, ordered.image_change, strict=True):
            rows = np.flatnonzero(np.isfinite(value) & np.isfinite(change) & (t > self.low) & (t < self.high))
            self.update(rows, t[rows], value[rows], change[rows] <= allowed)
        self.side[:], self.looked[:] = 0, 0

    def _move_far(self, rows: Rows, t: Floats, value: Floats) -> None:
        self.side[rows] = np.minimum(self.side[rows], 0) - 1
        self.beyond[rows], self.at_beyond[rows] = self.high[rows], self.at_high[rows]
        self.high[rows], self.at_high[rows] = t, value
        self.wall[rows] = None

    def _move_near(self, rows: Rows, t: Floats, value: Floats) -> None:
        self.side[rows] = np.maximum(self.side[rows], 0) + 1
        self.rate[rows] = (self.at_low[rows] - value) / (t - self.low[rows])
        self.low[rows], self.at_low[rows] = t, value

    def next(self, rows: Rows) -> Floats:
        """Where to look: inside a bracket, in the middle before a wall, by the last slope without either."""
        low, high, excess = self.low[rows], self.high[rows], self.at_low[rows] - self.aim[rows]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            predicted = low + excess / self.rate[rows]
            further = np.where(low > 0, np.clip(predicted, 1.02 * low, 3.0 * low), predicted)
            middle = (low + high) / 2
            between = low + np.clip(self._share(rows), 0.02, 0.98) * (high - low)
        closed = np.isfinite(self.at_high[rows])
        return np.where(closed, between, np.where(np.isfinite(high), middle, further))

    def _share(self, rows: Rows) -> Floats:
        """Where between the ends the aim is met: first on the cubic, later by Illinois.

        Illinois: on the straight line between the ends, the excess of an end that stays halved every time.
        """
        near, far = self.at_low[rows] - self.aim[rows], self.at_high[rows] - self.aim[rows]
        side = self.side[rows]
        halved = 0.5 ** np.maximum(np.abs(side) - 1, 0)
        near, far = np.where(side < 0, near * halved, near), np.where(side > 0, far * halved, far)
        cubic = self._root(rows)
        moved = np.abs(side) <= np.where(self.low[rows] > 0, 1, 2)
        trusted = moved & (self.looked[rows] <= _TRUSTED) & np.isfinite(cubic)
        return np.where(trusted, cubic, near / (near - far))

    def _root(self, rows: Rows) -> Floats:
        """Where the cubic through value and slope at z0 and through two looks meets the aim, as a share; else NaN.

        The looks are both ends, or where the near end is z0 the far end and the one before it.
        """
        low, high = self.low[rows], self.high[rows]
        inner = low > 0
        other = np.where(inner, low, self.beyond[rows])
        at_other = np.where(inner, self.at_low[rows], self.at_beyond[rows])
        first, slope = self.first[rows], self.slope[rows]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            bent = (self.at_high[rows] - first + slope * high) / high**2
            third = (bent - (at_other - first + slope * other) / other**2) / (high - other)
            second = bent - third * high
            left, right = np.zeros(len(rows)), np.ones(len(rows))
            for _ in range(_HALVINGS):
                share = (left + right) / 2
                t = low + share * (high - low)
                above = first - slope * t + second * t**2 + third * t**3 > self.aim[rows]
                left, right = np.where(above, share, left), np.where(above, right, share)
        return np.where(np.isfinite(second), (left + right) / 2, np.nan)
