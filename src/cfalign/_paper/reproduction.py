"""Reproduction of the paper's figures: drawings, numbers, and a summary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfalign._errors import BadInput, CfalignError, nearest
from cfalign._paper.figure_2 import FIGURE_2
from cfalign._paper.figure_3 import FIGURE_3
from cfalign._paper.figure_4 import FIGURE_4
from cfalign._paper.figure_5 import FIGURE_5
from cfalign._paper.figure_6 import FIGURE_6
from cfalign._paper.figure_7 import FIGURE_7
from cfalign._paper.figure_8 import FIGURE_8
from cfalign._paper.figure_9 import FIGURE_9
from cfalign._paper.figure_10 import FIGURE_10
from cfalign._paper.figure_inputs import FigureInputs
from cfalign._paper.figure_job import Entry, FigureJob
from cfalign._runs.codec import write_json
from cfalign._runs.progress import Progress, silent

_ALL = (FIGURE_2, FIGURE_3, FIGURE_4, FIGURE_5, FIGURE_6, FIGURE_7, FIGURE_8, FIGURE_9, FIGURE_10)
FIGURES = {figure.name: figure for figure in _ALL}
"""By name, such as ``fig5``."""
EVERY = "all"


@dataclass(frozen=True)
class Reproduction:
    """The requested figures."""

    entries: Mapping[str, Entry]
    """By figure: its entry in ``summary.json``; for a figure that failed, ``failed`` and the reason."""
    out: Path

    @property
    def failed(self) -> dict[str, str]:
        """By figure that could not be made: the reason."""
        return {name: entry["failed"] for name, entry in self.entries.items() if "failed" in entry}

    def lines(self) -> list[str]:
        """For the terminal."""
        rows = []
        for name, entry in self.entries.items():
            if "failed" not in entry:
                rows += [f"{name}: {line}" for line in FIGURES[name].lines(entry)]
        made = len(self.failed) < len(self.entries)
        return [*rows, f"Figures, numbers and summary.json are in {self.out}."] if made else rows


def figures_named(name: str) -> tuple[str, ...]:
    """One figure, or every one for ``all``. Raises BadInput for an unknown name."""
    if name == EVERY:
        return tuple(FIGURES)
    if name not in FIGURES:
        raise BadInput(f"No figure {name!r}; {nearest(name, (*FIGURES, EVERY))}.")
    return (name,)


def reproduce(
    figures: Sequence[str],
    inputs: FigureInputs,
    *,
    out: str | Path,
    quick: bool = False,
    seed: int = 0,
    progress: Progress = silent,
) -> Reproduction:
    """Make figures in ``out``: PNG, SVG, numbers as CSV, and their entries in ``summary.json``.

    The other figures are made even if one fails. The summary keeps the entries of figures that were made before.

    Args:
        figures: names of ``FIGURES``.
        inputs: images and models.
        out: folder of figures, numbers and runs.
        quick: few images: minutes at most, wide intervals.
        seed: seed of every random draw.
        progress: called with (stage, done, total).
    """
    job = FigureJob(inputs, Path(out), quick, seed, progress)
    entries: dict[str, Entry] = {}
    for name in figures:
        try:
            entries[name] = FIGURES[name].make(job)
        except CfalignError as error:
            entries[name] = {"failed": str(error)}
    file = job.out / "summary.json"
    write_json(file, {**_earlier(file), **entries})
    return Reproduction(entries, job.out)


def _earlier(file: Path) -> dict[str, Any]:
    """Entries of the figures that were made before; empty if the file cannot be read."""
    if not file.is_file():
        return {}
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}
