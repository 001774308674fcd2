"""Progress: a report at the start of a stage, and after every unit of its work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from cfalign._errors import BadInput
from cfalign._runs.bars import shown_bars

Progress = Callable[[str, int, int], None]
"""(stage, done, total); called at the start of a stage and after every unit."""
ShowProgress = Progress | bool | None
"""What a user may ask for: True shows bars, None and False nothing, and a function is called with every report."""
Given = ParamSpec("Given")
Result = TypeVar("Result")


def silent(stage: str, done: int, total: int) -> None:
    """A progress that reports nothing."""


def with_bars(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """A public function whose keyword ``progress`` may also be True, for bars while it runs, False or None."""

    @wraps(function)
    def called(*args: Given.args, **more: Given.kwargs) -> Result:
        asked: Any = more.get("progress")
        bars: AbstractContextManager[Any] = shown_bars() if asked is True else nullcontext(asked)
        with bars as progress:
            more["progress"] = progress
            return function(*args, **more)

    return called


def told_to(progress: Any) -> Progress:
    """Whom to tell: the function that was given, or nobody. Raises BadInput for anything else."""
    if progress is None or progress is False:
        return silent
    if progress is True or not callable(progress):
        raise BadInput(
            f"progress: expected True, False, or a function of (stage, done, total), got {type(progress).__name__}."
        )
    listener: Progress = progress
    return listener
