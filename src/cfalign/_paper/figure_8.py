"""Fig. 8: alignment of all classes before and after the rectification of every target against the shortcut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.stats import spearmanr

from cfalign._audit.options import AuditOptions
from cfalign._figures import style
from cfalign._figures.plots.alignment_matrix import draw_matrix, write_values
from cfalign._figures.plots.pixels import new_figure
from cfalign._heads.composition import head
from cfalign._paper.figure_job import Entry, FigureJob, PaperFigure
from cfalign._paper.printed_alignment import ALIGNMENT
from cfalign._paper.rectified_collection import Collection, alignment_of, collection_lines
from cfalign._results import Floats
from cfalign._runs.progress import Progress, silent

CELL, BETWEEN = 0.36, 0.4
"""Side of a cell, and the gap between two matrices, in inches."""


def matrices(
    given: Collection, out: str | Path, *, options: AuditOptions | None = None, progress: Progress = silent
) -> pl.DataFrame:
    """Alignment on the test images: rows (when, base, downstream) with psi, interval, n and q; the run goes to ``out``.

    ``when``: before or after. A target that was not rectified has no row after.
    """
    heads = {name: head(given.inputs.classifier, name) for name in given.classes}
    bases = {("before", name): composition for name, composition in heads.items()}
    bases["after", given.shortcut] = heads[given.shortcut]
    bases |= {("after", target): found.composition for target, found in given.found.items()}
    return alignment_of(
        given,
        bases,
        "test",
        out,
        names=("when", "base"),
        options=options or AuditOptions(limit=400, shown=0),
        progress=progress,
    )


def grid(table: pl.DataFrame, when: str, classes: Sequence[str]) -> Floats:
    """ψ [base, downstream] of ``matrices``."""
    cells = {(row["base"], row["downstream"]): row["psi"] for row in table.filter(pl.col("when") == when).to_dicts()}
    return np.array([[cells.get((base, other), math.nan) for other in classes] for base in classes], dtype=np.float64)


def beside_the_paper(values: Floats, classes: Sequence[str]) -> dict[str, Any]:
    """Spearman's rank correlation of the off-diagonal cells with the paper's Fig. 8 A, and the number of cells."""
    ours, theirs = [], []
    for i, base in enumerate(classes):
        for j, downstream in enumerate(classes):
            printed = ALIGNMENT.get(base, {}).get(downstream)
            if base != downstream and printed is not None and math.isfinite(values[i, j]):
                ours.append(values[i, j])
                theirs.append(printed)
    if len(ours) < 3:
        return {"rank_correlation": math.nan, "cells": len(ours)}
    return {"rank_correlation": float(spearmanr(ours, theirs).statistic), "cells": len(ours)}


def before_and_after(before: Floats, after: Floats, classes: Sequence[str], *, shortcut: str) -> Figure:
    """The matrices of the test images before and after, the shortcut's column framed."""
    n, side = len(classes), CELL * len(classes)
    figure = new_figure(2 * (side + BETWEEN) + 1.9, side + 2.1)
    width, height = figure.get_size_inches()
    for number, (title, values) in enumerate((("A) before", before), ("B) after rectification", after))):
        left = 1.75 + number * (side + BETWEEN)
        axes = figure.add_axes((left / width, 0.4 / height, side / width, side / height))
        draw_matrix(axes, values, classes if number == 0 else [""] * n, classes)
        write_values(axes, values)
        axes.set_title(title, fontsize=9, weight="bold", color=style.INK, pad=4, y=-0.075)
        column = list(classes).index(shortcut)
        axes.add_patch(Rectangle((column - 0.5, -0.5), 1, n, fill=False, edgecolor=style.INK, linewidth=1.6))
    return figure


def make(job: FigureJob) -> Entry:
    """Both matrices, the table of targets, and the agreement of the baseline with the paper's."""
    result = job.collection
    table = matrices(result, job.run("fig8"), options=job.audit_options(400, 40), progress=job.progress("fig8"))
    before, after = (grid(table, when, result.classes) for when in ("before", "after"))
    job.save("fig8", before_and_after(before, after, result.classes, shortcut=result.shortcut))
    job.save_table("fig8", table)
    job.save_table("fig8_targets", result.table())
    shortcut = result.classes.index(result.shortcut)
    column = {
        name: {"before": before[i, shortcut], "after": after[i, shortcut]}
        for i, name in enumerate(result.classes)
        if name != result.shortcut
    }
    return {
        "shortcut": result.shortcut,
        "headline": result.headline,
        "failures": result.failures(),
        "baseline_and_the_papers": beside_the_paper(before, result.classes),
        "column": column,
        "targets": result.table().to_dicts(),
    }


FIGURE_8 = PaperFigure("fig8", "all classes before and after rectification", make, collection_lines)
