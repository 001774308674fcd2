"""Fig. 7: ψ towards the shortcut at every step of the solver, for every rectified target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign._paper.figure_job import Entry, FigureJob, PaperFigure
from cfalign._paper.rectified_collection import Collection, collection_lines
from cfalign._rectification.rectified import Rectified

LEAST = 0.1
"""Every panel shows at least ± this range, so that noise does not look like a curve."""
IN_A_ROW = 4
"""Panels side by side."""


def solver_curves(result: Collection) -> Figure:
    """Mean ψ towards the shortcut by step of the solver, one panel per target; a line marks the step that is kept."""
    columns = min(IN_A_ROW, len(result.found))
    rows = math.ceil(len(result.found) / columns)
    figure = new_figure(2.3 * columns + 0.6, 1.75 * rows + 0.9)
    width, height = figure.get_size_inches()
    panels = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0.62 / width, 0.45 / height, 1 - 0.1 / width, 1 - 0.75 / height, wspace=0.28, hspace=0.62)
    for axes in panels.flat[len(result.found) :]:
        axes.set_axis_off()
    for axes, (target, found) in zip(panels.flat, result.found.items(), strict=False):
        _curves(axes, found)
        _ends(axes, found)
        _dressed(axes, f"{target} (β {style.signed(found.beta[0])})")
    for axes in panels[:, 0]:
        axes.set_ylabel(f"ψ → {result.shortcut}", fontsize=7, color=style.INK)
    keys = panels.flat[0].get_legend_handles_labels()
    figure.legend(*keys, loc="upper right", ncols=3, fontsize=7, frameon=False)
    title = "Mean ψ by step; the red line is the step kept; scales differ"
    place = (0.1 / width, 1 - 0.2 / height)
    figure.text(*place, title, fontsize=9, weight="bold", color=style.INK, va="top")
    return figure


def _curves(axes: Axes, found: Rectified) -> None:
    """ψ on training images, and on validation images at the steps that are validated."""
    steps = [step.step for step in found.curve]
    axes.axhline(0, color=style.RULE, linewidth=0.8)
    axes.axvline(found.best_step, color=style.POSITIVE, linewidth=1.1)
    training = [step.psi_train[0] for step in found.curve]
    axes.plot(steps, training, color=style.INK, marker="o", markersize=3.5, label="training")
    validated, validation = _known(steps, [step.psi_validation[0] for step in found.curve])
    look: dict[str, Any] = {"color": style.NEGATIVE, "marker": "s", "markersize": 3.5, "linestyle": "--"}
    axes.plot(validated, validation, label="validation", **look)


def _known(steps: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    pairs = [(step, value) for step, value in zip(steps, values, strict=True) if np.isfinite(value)]
    return [step for step, _ in pairs], [value for _, value in pairs]


def _ends(axes: Axes, found: Rectified) -> None:
    """ψ on test images, before and at the step that was kept."""
    places = {0: found.before[0]}
    if found.best_step:
        places[found.best_step] = found.after[0]
    psi = [reading.psi for reading in places.values()]
    error = [[reading.psi - reading.ci_low, reading.ci_high - reading.psi] for reading in places.values()]
    axes.errorbar(
        list(places),
        psi,
        yerr=np.array(error).T,
        color=style.POSITIVE,
        marker="D",
        markersize=4,
        markerfacecolor=style.PAPER,
        linestyle="none",
        capsize=2,
        label="held-out test, 95 % interval",
        zorder=3,
    )


def _dressed(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=7.5, color=style.INK, pad=3)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -LEAST), max(high, LEAST))
    axes.tick_params(labelsize=6.5, colors=style.INK)
    axes.locator_params(axis="x", integer=True, nbins=5)
    axes.spines[["top", "right"]].set_visible(False)


def curve_table(result: Collection) -> pl.DataFrame:
    """One row per target and step: β; ψ, ψ on logits and n of training and validation; whether the step was kept."""
    rows = []
    for target, found in result.found.items():
        for step in found.curve:
            row = {
                "target": target,
                "step": step.step,
                "beta": step.beta[0],
                "psi_train": step.psi_train[0],
                "psi_logit_train": step.psi_logit_train[0],
                "psi_validation": step.psi_validation[0],
                "psi_logit_validation": step.psi_logit_validation[0],
                "n_train": step.n_train,
                "n_validation": step.n_validation,
                "kept": step.step == found.best_step,
            }
            rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def make(job: FigureJob) -> Entry:
    """The curves of every target."""
    result = job.collection
    job.save("fig7", solver_curves(result))
    job.save_table("fig7", curve_table(result))
    return {"shortcut": result.shortcut, "headline": result.headline, "failures": result.failures()}


FIGURE_7 = PaperFigure("fig7", "ψ by step of the rectifications", make, collection_lines)
