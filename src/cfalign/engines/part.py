"""One part of a run, for job arrays in which every job does its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cfalign._errors import BadInput


@dataclass(frozen=True)
class Part:
    """Part ``number`` of ``of``, counted from 0: every ``of``-th unit of the work.

    >>> cfa.engines.Part.read("0/3")
    Part(number=0, of=3)
    """

    number: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if self.of < 1 or not 0 <= self.number < self.of:
            last = max(self.of, 1) - 1
            raise BadInput(f"part: expected a number from 0 to {last} of {max(self.of, 1)}, got {self}.")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def read(cls, text: str) -> Part:
        """From ``i/n``. Raises BadInput for anything else."""
        found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if found is None:
            raise BadInput(f"--shard: expected i/n with i from 0 to n - 1, such as 0/3, got {text!r}.")
        return cls(*map(int, found.groups()))

    @property
    def whole(self) -> bool:
        """Whether it is all of the work."""
        return self.of == 1

    def has(self, unit: int) -> bool:
        """Whether a unit of the work, by its number, belongs to it."""
        return unit % self.of == self.number

    def own_first(self, units: Sequence[int]) -> list[int]:
        """The units in an order in which jobs that share a folder do not all begin with the same one."""
        at = self.number % len(units) if units else 0
        return [*units[at:], *units[:at]]
