"""The engine that is always there: this process, one unit after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cfalign.engines.part import Part

Unit = TypeVar("Unit")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Local:
    """All work in this process.

    >>> cfa.engines.Local(part=cfa.engines.Part(0, 3)).part.whole
    False
    """

    part: Part = field(default_factory=Part)
    """Which part of the work this process does; another process, or machine, does the rest."""

    @contextmanager
    def crew(self, site: Any, *, folder: Path | None) -> Iterator[Alone]:
        """This process. ``folder`` is on a disk that it sees, as ever."""
        yield Alone(site)


@dataclass
class Alone:
    """A crew of one."""

    site: Any
    size: int = 1

    def each(self, work: Callable[[Any, Unit], Result], units: Iterable[Unit]) -> Iterator[tuple[Unit, Result]]:
        """``work(site, unit)`` of every unit, in their order."""
        for unit in units:
            yield unit, work(self.site, unit)
