"""Fig. 10: alignment of every target with every class at every step of its rectification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from cfalign._audit.options import AuditOptions
from cfalign._figures import style
from cfalign._figures.plots.alignment_matrix import draw_matrix, write_values
from cfalign._figures.plots.pixels import new_figure
from cfalign._paper.figure_job import Entry, FigureJob, PaperFigure
from cfalign._paper.rectified_collection import Collection, alignment_of
from cfalign._results import Floats
from cfalign._runs.progress import Progress, silent

CELL, ROW, BETWEEN = 0.36, 0.2, 0.42
"""Width and height of a cell, and the gap between two blocks, in inches."""


@dataclass(frozen=True)
class StepsOfTarget:
    """ψ of one target's f' at every β of its solver, [β, class]."""

    target: str
    betas: Sequence[float]
    train: Floats
    validation: Floats


def iterations(
    given: Collection, out: str | Path, *, options: AuditOptions | None = None, progress: Progress = silent
) -> pl.DataFrame:
    """ψ of f' towards every class at every step of the solver, on training and on validation images.

    Rows (part, target, step, beta, downstream) with psi, interval, n, q; the runs go below ``out``.
    """
    bases = {
        (target, step.step, step.beta[0]): composition
        for target, found in given.found.items()
        for step, composition in zip(found.curve, found.trail, strict=True)
    }
    parts = []
    for part in ("train", "val"):
        table = alignment_of(
            given,
            bases,
            part,
            Path(out) / part,
            names=("target", "step", "beta"),
            options=options or AuditOptions(limit=60, shown=0),
            progress=progress,
        )
        parts.append(table.select(pl.lit(part).alias("part"), pl.all()))
    return pl.concat(parts)


def steps_of(given: Collection, table: pl.DataFrame) -> list[StepsOfTarget]:
    """The table of ``iterations`` by target."""
    found = []
    for target, rectified in given.found.items():
        mine = table.filter(pl.col("target") == target)
        shape = (len(rectified.curve), len(given.classes))
        train, validation = (mine.filter(part=part)["psi"].to_numpy().reshape(shape) for part in ("train", "val"))
        found.append(StepsOfTarget(target, [step.beta[0] for step in rectified.curve], train, validation))
    return found


def steps_figure(targets: Sequence[StepsOfTarget], classes: Sequence[str]) -> Figure:
    """ψ towards every class: one block per target, one row per β; training images left, validation images right."""
    side, rows = CELL * len(classes), sum(len(steps.betas) for steps in targets)
    figure = new_figure(2 * side + 2.3, ROW * rows + BETWEEN * len(targets) + 1.4)
    width, height = figure.get_size_inches()
    top = height - 1.35
    for number, steps in enumerate(targets):
        tall = ROW * len(steps.betas)
        columns = classes if number == 0 else [""] * len(classes)
        for at, (part, values) in enumerate((("training", steps.train), ("validation", steps.validation))):
            left = 1.2 + at * (side + 0.5)
            axes = figure.add_axes((left / width, (top - tall) / height, side / width, tall / height))
            names = [f"β {style.signed(beta)}" if at == 0 else "" for beta in steps.betas]
            draw_matrix(axes, values, names, columns)
            write_values(axes, values)
            title = f"{steps.target}, {part} images"
            axes.set_xlabel(title, fontsize=8, weight="bold", color=style.INK, labelpad=3)
        top -= tall + BETWEEN
    return figure


def make(job: FigureJob) -> Entry:
    """Every step of every target."""
    result = job.collection
    table = iterations(result, job.run("fig10"), options=job.audit_options(60, 15), progress=job.progress("fig10"))
    job.save_table("fig10", table)
    job.save("fig10", steps_figure(steps_of(result, table), result.classes))
    return {
        "shortcut": result.shortcut,
        "steps": {target: len(found.curve) for target, found in result.found.items()},
    }


FIGURE_10 = PaperFigure("fig10", "every step of the rectifications", make, lambda entry: ["done"])
