"""What a person or a program sees: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from shlex import join
from typing import Any, Protocol

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from cfalign._errors import BadInput, heard
from cfalign._figures.plots.pixels import save_png
from cfalign._runs.bars import on_console
from cfalign._runs.codec import as_json, write_json, written
from cfalign._runs.marks import MARKS
from cfalign._runs.record import discard
from cfalign._runs.unnamed import NAMED

STDERR = Console(stderr=True, emoji=False)  # hf:cat:train is no picture of a cat
STDOUT = Console(emoji=False)
WIDE = 120  # columns where there is no terminal to fit into


def complain(sentence: str) -> None:
    """One sentence on stderr."""
    STDERR.print(f"cfalign: {sentence}", markup=False, highlight=False, soft_wrap=True)


def show_command(words: Sequence[str]) -> None:
    """A command on stderr, on a line of its own and as a shell reads it, ready to be copied."""
    print(join(words), file=sys.stderr)


def start_again(out: Path, *, kept: Path | None = None) -> None:
    """Remove the run in ``out``; heads that were made of its unnamed features stay.

    Raises BadInput when it holds no run, or is ``kept``, the bank that is audited.
    """
    if kept is not None and out.resolve() == kept.resolve():
        raise BadInput(f"--fresh would remove the bank {str(kept)!r}; give another --out.")
    discard(out)
    heads = sorted(path.name for path in (out.expanduser() / NAMED).glob("*") if path.is_dir())
    if heads:
        complain(f"{out / NAMED} stays: heads that were made of unnamed features ({', '.join(heads)}).")
    if (out.expanduser() / MARKS).is_file():
        complain(f"{out / MARKS} stays: marks of people, which will be about the new run.")


@contextmanager
def told_warnings() -> Iterator[None]:
    """Tell on stderr what is odd about images and models, each sentence once."""
    told: set[str] = set()

    def tell(sentence: str) -> None:
        if sentence not in told:
            told.add(sentence)
            complain(sentence)

    with heard(tell):
        yield


def say(sentence: str) -> None:
    """One line on stdout."""
    STDOUT.print(sentence, markup=False, highlight=False, soft_wrap=True)


def print_table(table: Table, *, width: int = WIDE) -> None:
    """A table on stdout, as wide as the terminal, or ``width`` columns without one."""
    (STDOUT if STDOUT.is_terminal else Console(width=width, emoji=False)).print(table)


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(as_json(content), ensure_ascii=False))


class BenchmarkResult(Protocol):
    """What every benchmark returns."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with ``headline``."""

    def lines(self) -> list[str]:
        """For the terminal."""


def tell(result: BenchmarkResult, *, as_json: bool) -> None:
    """A benchmark's result on stdout, for a person or a program."""
    if as_json:
        print_json(result.as_dict())
    else:
        for line in result.lines():
            say(line)


def tell_and_keep(
    result: BenchmarkResult, figure: Callable[[], Figure], *, out: Path | None, name: str, as_json: bool
) -> None:
    """As ``tell``; where there is a folder ``out``, it also gets ``summary.json`` and the figure ``name``.png."""
    if out is not None:
        write_json(out / "summary.json", result.as_dict())
        with written(out / f"{name}.png") as temporary:
            save_png(figure(), temporary)
    tell(result, as_json=as_json)
    if out is not None and not as_json:
        say(f"Figure: {out / f'{name}.png'}    numbers: {out / 'summary.json'}")


def progress() -> AbstractContextManager[Callable[[str, int, int], None]]:
    """Progress bars on stderr, one per stage; plain lines where stderr is no terminal."""
    return on_console(STDERR)
