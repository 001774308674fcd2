"""What an engine is, and those who do the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from cfalign.engines.part import Part

Site = TypeVar("Site")
"""What every unit of the work needs: models, images, and the folder of the results."""
Unit = TypeVar("Unit")
Result = TypeVar("Result")


class Crew(Protocol):
    """Workers at one site."""

    @property
    def size(self) -> int:
        """Units that are worked on at once."""
        ...

    def each(self, work: Callable[[Any, Unit], Result], units: Iterable[Unit]) -> Iterator[tuple[Unit, Result]]:
        """``work(site, unit)`` of every unit, in the order in which they are done.

        Units are taken one by one, as workers are free. ``work`` is a function of a module. An error of the work is
        raised here.
        """
        ...


class Engine(Protocol):
    """Where work runs."""

    @property
    def part(self) -> Part:
        """Which part of the work is done; all of it by default."""
        ...

    def crew(self, site: Any, *, folder: Path | None) -> AbstractContextManager[Crew]:
        """Workers at the site, until the block ends. ``folder``: where they write; None where they write nothing."""
        ...
