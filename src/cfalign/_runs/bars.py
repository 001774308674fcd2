"""Bars of progress: in a terminal by rich, in a notebook as HTML, and plain lines where there is neither.

rich is a dependency anyway. Its bars in notebooks need ipywidgets, which many kernels lack; an HTML element that is
displayed once and then updated needs nothing, and looks the same in Jupyter, VS Code and Colab.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_SECONDS = 0.1
"""Between two looks of a notebook."""


@contextmanager
def shown_bars(console: Console | None = None) -> Iterator[Callable[[str, int, int], None]]:
    """What shows every report, one bar per stage: on stderr, on ``console``, or below the cell of a notebook."""
    if console is None and (display := _display()) is not None:
        yield _in_notebook(display)
        return
    with on_console(console or Console(stderr=True, emoji=False)) as update:
        yield update


@contextmanager
def on_console(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Bars on a terminal; plain lines where the console is none."""
    if not console.is_terminal:
        yield _plain(console)
        return
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield update


def _plain(console: Console) -> Callable[[str, int, int], None]:
    """A line per stage at every tenth of it."""
    told: dict[str, int] = {}

    def update(stage: str, done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if tenth > told.get(stage, 0) or (done == total and stage not in told):
            told[stage] = tenth
            console.print(f"{stage}: {done} of {total}", markup=False, highlight=False)

    return update


def _display() -> Any:
    """IPython's module ``display`` where a notebook's kernel runs this code; else None."""
    ask = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = None if ask is None else ask()
    return import_module("IPython.display") if getattr(shell, "kernel", None) is not None else None


def _in_notebook(display: Any) -> Callable[[str, int, int], None]:
    stages: dict[str, tuple[int, int, float, float]] = {}
    handle: list[Any] = []
    last = [0.0]

    def update(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        begun = stages[stage][2] if stage in stages else now
        new = stage not in stages
        stages[stage] = (done, total, begun, now)
        if not handle:
            handle.append(display.display(display.HTML(stages_html(stages)), display_id=True))
        elif new or done >= total or now - last[0] >= _SECONDS:
            handle[0].update(display.HTML(stages_html(stages)))
        else:
            return
        last[0] = now

    return update


def stages_html(stages: dict[str, tuple[int, int, float, float]]) -> str:
    """A bar per stage, from (done, total, begun, now in seconds).

    >>> stages_html({"walk": (1, 4, 0.0, 2.0)})
    '<table><tr><td>walk</td><td><progress value="1" max="4"></progress></td><td>1 of 4, 2 s</td></tr></table>'
    """
    rows = (
        f'<tr><td>{escape(stage)}</td><td><progress value="{done}" max="{max(total, 1)}"></progress></td>'
        f"<td>{done} of {total}, {now - begun:.0f} s</td></tr>"
        for stage, (done, total, begun, now) in stages.items()
    )
    return f"<table>{''.join(rows)}</table>"
