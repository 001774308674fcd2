"""The figures of the paper, drawn from the numbers of the experiments."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfalign.experiments import Comparison, Induced
from cfalign.figures import style
from cfalign.figures.pixels import SIGNED, new_figure
from cfalign.results import Floats


def comparison_figure(result: Comparison) -> Figure:
    """Fig. 2: three matrices side by side, bases in rows, one colour scale."""
    n = len(result.classes)
    figure = new_figure(3 * (0.36 * n + 0.4) + 2.6, 0.36 * n + 2.3)
    width, height = figure.get_size_inches()
    titles = ("CF alignment: mean ψ", "correlation of predictions", "correlation of labels")
    columns = ("psi", "prediction_correlation", "label_correlation")
    side = 0.36 * n
    for k, (title, column) in enumerate(zip(titles, columns, strict=True)):
        box = ((1.75 + k * (side + 0.4)) / width, 0.35 / height, side / width, side / height)
        axes = figure.add_axes(box)
        matrix(axes, result.grid(column), result.classes, result.classes, values=True, rows=k == 0)
        axes.set_title(title, fontsize=9, weight="bold", color=style.INK, pad=4, y=-0.075)
    return figure


def matrix_figure(values: Floats, bases: Sequence[str], downstream: Sequence[str]) -> Figure:
    """Fig. 9: the complete matrix, in the order given."""
    figure = new_figure(0.2 * len(downstream) + 2.6, 0.2 * len(bases) + 2.2)
    width, height = figure.get_size_inches()
    box = (1.75 / width, 0.45 / height, 0.2 * len(downstream) / width, 0.2 * len(bases) / height)
    axes = figure.add_axes(box)
    matrix(axes, values, bases, downstream, values=False)
    axes.set_title("mean relative change ψ: rows are bases, columns downstream", fontsize=9, color=style.INK, y=-0.055)
    bar = figure.add_axes((box[0] + box[2] + 0.15 / width, box[1], 0.14 / width, box[3] * 0.4))
    colours = figure.colorbar(axes.images[0], cax=bar, ticks=[-1, -0.5, 0, 0.5, 1])
    colours.ax.tick_params(labelsize=7, colors=style.INK)
    return figure


def matrix(
    axes: Axes,
    grid: Floats,
    bases: Sequence[str],
    downstream: Sequence[str],
    *,
    values: bool,
    rows: bool = True,
) -> None:
    """Colours from −1 to 1; undefined cells are grey with a dash; ``values`` prints two digits into each."""
    axes.set_facecolor(style.FAINT)
    axes.imshow(np.ma.masked_invalid(grid), cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    size = 7.0 if values else 6.5
    axes.set_xticks(range(len(downstream)), downstream, rotation=60, ha="left", rotation_mode="anchor", fontsize=size)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(bases)), bases if rows else [""] * len(bases), fontsize=size)
    axes.tick_params(length=0, colors=style.INK, pad=2)
    for border in axes.spines.values():
        border.set_color(style.RULE)
    if not values:
        return
    for i, j in np.ndindex(grid.shape):
        finite = bool(np.isfinite(grid[i, j]))
        ink = style.ink_on(style.diverging(float(grid[i, j]))) if finite else style.MUTED
        text = style.number(float(grid[i, j])).replace("0.", ".") if finite else style.DASH
        axes.text(j, i, text, ha="center", va="center", fontsize=5.5, color=ink)


def dose_figure(result: Induced) -> Figure:
    """Fig. 5 as numbers: ψ towards the shortcut against its coefficient, with 95 % intervals."""
    figure = new_figure(5.2, 3.4)
    axes = figure.add_axes((0.13, 0.16, 0.83, 0.72))
    table = result.table
    x, psi = table["coefficient"].to_numpy(), table["psi"].to_numpy()
    low, high = psi - table["ci_low"].to_numpy(), table["ci_high"].to_numpy() - psi
    axes.axhline(0, color=style.RULE, linewidth=0.8)
    axes.errorbar(x, psi, yerr=np.stack([low, high]), color=style.NEGATIVE, marker="o", markersize=4, capsize=2.5)
    axes.set_xlabel(f"coefficient c of {result.shortcut}", fontsize=8, color=style.INK)
    axes.set_ylabel(f"ψ → {result.shortcut}", fontsize=8, color=style.INK)
    counts = table["n"].to_list()
    axes.set_title(
        f"counterfactuals of {result.target} + c·{result.shortcut} (n {min(counts)} to {max(counts)}, 95 % intervals)",
        fontsize=8.5, color=style.INK,
    )  # fmt: skip
    axes.tick_params(labelsize=7.5, colors=style.INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
