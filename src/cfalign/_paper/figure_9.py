"""Fig. 9: the matrix of all heads against all heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._figures import style
from cfalign._figures.plots.alignment_matrix import draw_matrix
from cfalign._figures.plots.pixels import new_figure
from cfalign._figures.svg import matrix_order
from cfalign._paper.figure_inputs import FigureInputs
from cfalign._paper.figure_job import Entry, FigureJob, PaperFigure
from cfalign._results import Floats
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run

CELL = 0.2
"""Side of a cell in inches."""


def complete_matrix(
    inputs: FigureInputs, out: str | Path, *, options: AuditOptions | None = None, progress: Progress = silent
) -> Run:
    """Audit every head of the classifier as base and downstream; the run goes to ``out``."""
    return audit(
        inputs.images,
        inputs.classifier,
        autoencoder=inputs.autoencoder,
        options=options or AuditOptions(limit=100, shown=0),
        out=out,
        progress=progress,
    )


def complete_matrix_figure(values: Floats, bases: Sequence[str], downstream: Sequence[str]) -> Figure:
    """The matrix in the given order, with a colour bar."""
    figure = new_figure(CELL * len(downstream) + 2.6, CELL * len(bases) + 2.2)
    width, height = figure.get_size_inches()
    left, bottom, wide, tall = 1.75 / width, 0.45 / height, CELL * len(downstream) / width, CELL * len(bases) / height
    axes = figure.add_axes((left, bottom, wide, tall))
    draw_matrix(axes, values, bases, downstream, size=6.5)
    axes.set_title("mean relative change ψ: rows are bases, columns downstream", fontsize=9, color=style.INK, y=-0.055)
    bar = figure.add_axes((left + wide + 0.15 / width, bottom, 0.14 / width, 0.4 * tall))
    colours = figure.colorbar(axes.images[0], cax=bar, ticks=[-1, -0.5, 0, 0.5, 1])
    colours.ax.tick_params(labelsize=7, colors=style.INK)
    return figure


def make(job: FigureJob) -> Entry:
    """The matrix, clustered as in the report."""
    options = job.audit_options(100, 8)
    run = complete_matrix(job.inputs, job.run("fig9"), options=options, progress=job.progress("fig9"))
    cells = run.cells()
    bases, downstream = matrix_order(cells)
    psi = {(cell.base, cell.downstream): cell.psi for cell in cells}
    values = np.array([[psi[base, other] for other in downstream] for base in bases])
    job.save("fig9", complete_matrix_figure(values, bases, downstream))
    job.save_table("fig9", run.matrix())
    return {
        "heads": len(bases),
        "order": bases,
        "n": {cell.base: cell.n for cell in cells if cell.base == cell.downstream},
    }


FIGURE_9 = PaperFigure("fig9", "the complete matrix", make, lambda entry: [f"{entry['heads']} heads"])
