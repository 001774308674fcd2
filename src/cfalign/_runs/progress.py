"""Progress: a report at the start of a stage, and after every unit of its work."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""(stage, done, total); called at the start of a stage and after every unit."""


def silent(stage: str, done: int, total: int) -> None:
    """A progress that reports nothing."""
