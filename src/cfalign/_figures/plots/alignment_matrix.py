"""A matrix of ψ or of correlations, drawn with colours from −1 to 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cfalign._figures import style
from cfalign._figures.plots.pixels import SIGNED
from cfalign._results import Floats


def draw_matrix(axes: Axes, grid: Floats, rows: Sequence[str], columns: Sequence[str], *, size: float = 7.0) -> None:
    """Draw colours from −1 to 1 with names of rows and columns, in letters of ``size``; undefined cells are grey."""
    axes.set_facecolor(style.FAINT)
    axes.imshow(np.ma.masked_invalid(grid), cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="left", rotation_mode="anchor", fontsize=size)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), rows, fontsize=size)
    axes.tick_params(length=0, colors=style.INK, pad=2)
    for border in axes.spines.values():
        border.set_color(style.RULE)


def write_values(axes: Axes, grid: Floats) -> None:
    """Write two digits into each cell; a dash where it is undefined."""
    for i, j in np.ndindex(grid.shape):
        value = float(grid[i, j])
        if np.isfinite(value):
            ink, text = style.ink_on(style.diverging(value)), style.number(value).replace("0.", ".")
        else:
            ink, text = style.MUTED, style.DASH
        axes.text(j, i, text, ha="center", va="center", fontsize=5.5, color=ink)
