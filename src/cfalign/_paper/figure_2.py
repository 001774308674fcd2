"""Fig. 2: counterfactual alignment, correlation of predictions, and correlation of labels side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from cfalign._analysis.correlation import correlation
from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._errors import BadInput
from cfalign._figures import style
from cfalign._figures.plots.alignment_matrix import draw_matrix, write_values
from cfalign._figures.plots.pixels import new_figure
from cfalign._paper.figure_inputs import CLASSES, FigureInputs
from cfalign._paper.figure_job import Entry, FigureJob, PaperFigure
from cfalign._results import Floats
from cfalign._runs.columns import Column
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run

FEW = 10
"""A class with fewer counterfactuals is skipped."""
CORRELATED, ALIGNED = 0.2, 0.1
"""Correlated: |r| of the predictions is at least this. Not aligned: the interval of ψ is within ± this."""
PANELS = {
    "psi": "CF alignment: mean ψ",
    "prediction_correlation": "correlation of predictions",
    "label_correlation": "correlation of labels",
}
"""Column → title."""
CELL, BETWEEN = 0.36, 0.4
"""Side of a cell, and the gap between two matrices, in inches."""


@dataclass(frozen=True)
class AlignmentAndCorrelation:
    """Three readings of the same pairs of classes."""

    classes: tuple[str, ...]
    table: pl.DataFrame
    """One row per (base, downstream): psi, ci_low, ci_high, n, q as in ``matrix.csv``; prediction_correlation and
    label_correlation over the images with their 95 % intervals (Fisher's z) and n; NaN where a class does not vary.
    """
    skipped: Mapping[str, str]
    """Classes that are left out, and why."""

    def grid(self, column: str) -> Floats:
        """[base, downstream] of a column of the table."""
        n = len(self.classes)
        return self.table[column].to_numpy().astype(np.float64).reshape(n, n)

    def unused(self) -> list[dict[str, Any]]:
        """Pairs whose predictions correlate but which are not aligned, the most correlated first."""
        size = pl.col("prediction_correlation").abs()
        others = pl.col("base") != pl.col("downstream")
        correlated = pl.col("prediction_correlation").is_not_nan() & (size >= CORRELATED)
        not_aligned = (pl.col("ci_low") >= -ALIGNED) & (pl.col("ci_high") <= ALIGNED)
        return self.table.filter(others & correlated & not_aligned).sort(size, descending=True).to_dicts()

    def asymmetric(self, most: int = 10) -> list[dict[str, Any]]:
        """Pairs whose two directions differ beyond their intervals, largest difference first.

        The interval of the difference takes both directions as independent: ± √(h₁² + h₂²) of their half widths.
        """
        cells = {(row["base"], row["downstream"]): row for row in self.table.to_dicts()}
        found = []
        for i, a in enumerate(self.classes):
            for b in self.classes[i + 1 :]:
                there, back = cells[a, b], cells[b, a]
                difference = there["psi"] - back["psi"]
                half = math.hypot(*((cell["ci_high"] - cell["ci_low"]) / 2 for cell in (there, back)))
                if abs(difference) > half:
                    pair = {
                        "pair": [a, b],
                        "psi": there["psi"],
                        "psi_back": back["psi"],
                        "difference": difference,
                        "ci_low": difference - half,
                        "ci_high": difference + half,
                        "n": [there["n"], back["n"]],
                    }
                    found.append(pair)
        return sorted(found, key=lambda pair: -abs(pair["difference"]))[:most]


def alignment_and_correlation(
    inputs: FigureInputs,
    out: str | Path,
    *,
    classes: Sequence[str] = CLASSES,
    options: AuditOptions | None = None,
    progress: Progress = silent,
) -> AlignmentAndCorrelation:
    """CF alignment, prediction correlation and label correlation of some classes; the run goes to ``out``.

    ``options.limit``: counterfactuals per class, 400 by default as in the paper. Raises BadInput for fewer than two
    classes, and if no class has enough counterfactuals.
    """
    known, skipped = inputs.classes(classes)
    run = audit(
        inputs.images,
        inputs.classifier,
        autoencoder=inputs.autoencoder,
        bases=known,
        downstream=known,
        options=options or AuditOptions(limit=400, shown=0),
        out=out,
        progress=progress,
    )
    few = _few(run, known)
    kept = tuple(c for c in known if c not in few)
    if not kept:
        counts = ", ".join(f"{c}: {n}" for c, n in few.items())
        raise BadInput(
            f"Expected {FEW} counterfactuals of at least one class, got {counts}: give more images of each class, or a "
            "higher limit."
        )
    skipped |= {c: f"expected at least {FEW} counterfactuals, got {n}" for c, n in few.items()}
    return AlignmentAndCorrelation(kept, _table(run, inputs, kept), skipped)


def _few(run: Run, classes: Sequence[str]) -> dict[str, int]:
    """Classes with too few counterfactuals, and how many."""
    made = dict.fromkeys(classes, 0)
    for cell in run.cells():
        if cell.base in made and cell.downstream in made:
            made[cell.base] = max(made[cell.base], cell.n)
    return {base: n for base, n in made.items() if n < FEW}


def _table(run: Run, inputs: FigureInputs, classes: Sequence[str]) -> pl.DataFrame:
    scores = run.scores().filter(pl.col("skipped").is_null())
    predictions = scores.select(Column.RECONSTRUCTION.columns(classes)).to_numpy()
    labels = np.full((0, len(classes)), np.nan)
    if inputs.labels is not None:
        labels = inputs.labels.subset(scores["image_id"].to_list()).require(classes).values
    cells = {(cell.base, cell.downstream): cell for cell in run.cells()}
    rows = []
    for i, base in enumerate(classes):
        for j, downstream in enumerate(classes):
            cell = cells[base, downstream]
            row = {name: getattr(cell, name) for name in ("base", "downstream", "psi", "ci_low", "ci_high", "n", "q")}
            row |= _correlation("prediction", predictions[:, i], predictions[:, j])
            row |= _correlation("label", labels[:, i], labels[:, j])
            rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def _correlation(name: str, a: Floats, b: Floats) -> dict[str, float]:
    """The columns of a correlation in the table."""
    found = correlation(a, b)
    numbers = {"correlation": found.r, "ci_low": found.ci_low, "ci_high": found.ci_high, "n": found.n}
    return {f"{name}_{what}": number for what, number in numbers.items()}


def three_matrices(result: AlignmentAndCorrelation) -> Figure:
    """Three matrices side by side, bases in rows, one colour scale."""
    classes, side = result.classes, CELL * len(result.classes)
    figure = new_figure(3 * (side + BETWEEN) + 2.6, side + 2.3)
    width, height = figure.get_size_inches()
    for number, (column, title) in enumerate(PANELS.items()):
        left = 1.75 + number * (side + BETWEEN)
        axes = figure.add_axes((left / width, 0.35 / height, side / width, side / height))
        values = result.grid(column)
        draw_matrix(axes, values, classes if number == 0 else [""] * len(classes), classes)
        write_values(axes, values)
        axes.set_title(title, fontsize=9, weight="bold", color=style.INK, pad=4, y=-0.075)
    return figure


def make(job: FigureJob) -> Entry:
    """The three matrices, and the pairs on which they tell different stories."""
    options = job.audit_options(400, 40)
    result = alignment_and_correlation(job.inputs, job.run("fig2"), options=options, progress=job.progress("fig2"))
    job.save("fig2", three_matrices(result))
    job.save_table("fig2", result.table)
    return {
        "classes": list(result.classes),
        "skipped": dict(result.skipped),
        "pairs": len(result.classes) * (len(result.classes) - 1),
        "correlated_but_not_aligned": result.unused(),
        "asymmetric": result.asymmetric(),
    }


def lines(entry: Entry) -> list[str]:
    """The clearest pairs, and the classes that were skipped."""
    unused = [f"{pair['base']} → {pair['downstream']}" for pair in entry["correlated_but_not_aligned"][:5]]
    uneven = [" and ".join(pair["pair"]) for pair in entry["asymmetric"][:3]]
    return [
        f"correlated but not aligned: {', '.join(unused) or 'none'}; most asymmetric: {', '.join(uneven)}",
        *(f"{name} skipped: {why}" for name, why in entry["skipped"].items()),
    ]


FIGURE_2 = PaperFigure("fig2", "alignment beside correlations", make, lines)
