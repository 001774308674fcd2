"""Progress: one unit of work after the other, and a report after each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]
"""(stage, done, total); called at the start of a stage and after every unit."""


def silent(stage: str, done: int, total: int) -> None:
    """A progress that reports nothing."""


def in_order(
    units: Sequence[Unit], work: Callable[[Unit], Result], *, stage: str, progress: Progress = silent
) -> Iterator[Result]:
    """Results of ``work`` in the order of ``units``; the work stops when the caller stops to take results."""
    progress(stage, 0, len(units))
    for done, unit in enumerate(units, start=1):
        result = work(unit)
        progress(stage, done, len(units))
        yield result
