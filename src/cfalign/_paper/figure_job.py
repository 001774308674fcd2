"""The job that makes figures: inputs, output folder and size; and the interface of a figure's module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from cfalign._audit.options import AuditOptions
from cfalign._figures.plots.pixels import save_png
from cfalign._paper.figure_inputs import CLASSES, FigureInputs
from cfalign._paper.rectified_collection import Collection, collection, with_common_shortcut
from cfalign._rectification.options import RectificationOptions
from cfalign._runs.codec import write_text, written
from cfalign._runs.progress import Progress, silent

QUICK_TARGETS = ("heavy_makeup", "high_cheekbones", "young")
"""Rectified targets of Figs. 7, 8 and 10 in the quick form."""

Entry = Mapping[str, Any]
"""The numbers of a figure, for ``summary.json``."""


@dataclass(frozen=True)
class FigureJob:
    """Inputs, output folder, and size of the figures."""

    inputs: FigureInputs
    out: Path
    quick: bool = False
    """Whether few images are used: minutes at most, wide intervals."""
    seed: int = 0
    bars: Progress = silent

    def progress(self, figure: str) -> Progress:
        """Progress of the stages of one figure; every stage gets the figure's name."""
        return lambda stage, done, total: self.bars(f"{figure} {stage}", done, total)

    def audit_options(self, limit: int, quick: int) -> AuditOptions:
        """``limit`` counterfactuals per base, or ``quick`` in the quick form."""
        return AuditOptions(limit=quick if self.quick else limit, shown=0, seed=self.seed)

    @cached_property
    def collection(self) -> Collection:
        """The rectifications that Figs. 7, 8 and 10 share."""
        return collection(
            with_common_shortcut(self.inputs),
            targets=QUICK_TARGETS if self.quick else CLASSES,
            options=RectificationOptions(reading="outgoing", limit=150 if self.quick else 400, seed=self.seed),
            progress=self.progress("rectification"),
        )

    def run(self, figure: str) -> Path:
        """The run directory behind a figure."""
        return self.out / "runs" / figure

    def save(self, name: str, figure: Figure) -> None:
        """``name.png`` and ``name.svg``."""
        with written(self.out / f"{name}.png") as temporary:
            save_png(figure, temporary)
        with written(self.out / f"{name}.svg") as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})

    def save_table(self, name: str, table: pl.DataFrame) -> None:
        """``name.csv``."""
        write_text(self.out / f"{name}.csv", table.write_csv())


@dataclass(frozen=True)
class PaperFigure:
    """How one figure of the paper is made."""

    name: str
    """Such as ``fig5``."""
    title: str
    """Its content in a few words."""
    make: Callable[[FigureJob], Entry]
    """Draws it and writes its numbers; returns its entry of the summary."""
    lines: Callable[[Entry], Sequence[str]]
    """Lines for the terminal, from its entry."""
