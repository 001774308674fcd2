"""This process: one unit after the other, telling how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]
"""(stage, done, total); called at the start of a stage and after every unit."""


def silent(stage: str, done: int, total: int) -> None:
    """The progress of someone who does not look."""


def in_order(
    units: Sequence[Unit], work: Callable[[Unit], Result], *, stage: str, progress: Progress = silent
) -> Iterator[Result]:
    """Results of ``work`` in the order of ``units``; whoever stops consuming stops the work."""
    progress(stage, 0, len(units))
    for done, unit in enumerate(units, start=1):
        result = work(unit)
        progress(stage, done, len(units))
        yield result
