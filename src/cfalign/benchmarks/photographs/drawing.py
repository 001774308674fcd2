"""The figure of the benchmark: effects and group gaps against gaps by labels, and effects by dose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfalign._figures import style
from cfalign._figures.plots.pixels import FAMILY, new_figure
from cfalign.benchmarks.agreement import RankCorrelation
from cfalign.benchmarks.photographs.result import ConfoundedClassifier, ConfoundedPair, Photographs

COLOURS = ("#1b6ca8", "#d1495b", "#2a7f62", "#b8860b", "#6a4c93", "#3d5a80", "#8d5524", "#5d6671")
MARKERS = "osD^vPX*"
PANELS = ((0.05, 0.26), (0.36, 0.26), (0.67, 0.17))
"""Left end and width of each, as shares of the figure."""


def photographs_figure(result: Photographs) -> Figure:
    """Left: the confounder's effect against the worst-group gap, one point per classifier. Middle: the group gap from
    effects against the prediction gap by labels. Right: the mean effect over seeds at every dose.
    """
    figure = new_figure(15.0, 4.9)
    left, middle, right = (figure.add_axes((x, 0.13, width, 0.74)) for x, width in PANELS)
    for k, pair in enumerate(result.pairs):
        look: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
        mine = result.of(pair)
        _scatter(left, mine, ("gap", "effect", "ci_low", "ci_high"), look)
        _scatter(middle, mine, ("prediction_gap", "group_gap", "group_gap_low", "group_gap_high"), look)
        means = [np.mean([row.effect for row in result.of(pair, dose)]) for dose in pair.doses]
        right.plot(pair.doses, means, linewidth=1.4, markersize=5, label=_name(pair), **look)
    middle.axline((0, 0), slope=1, color=style.RULE, linewidth=0.8, zorder=0)
    effect, group_gap = (result.pooled[name] for name in ("effect_gap", "group_gap_prediction_gap"))
    _dressed(left, "worst-group gap (labels)", "effect of the confounder", _rank(effect))
    labelled = "difference with the confounder, at fixed label (labels)"
    _dressed(middle, labelled, "group gap (no labels)", _rank(group_gap))
    _dressed(right, "correlation in training", "effect of the confounder", "mean over seeds")
    _legend(figure, right)
    return figure


def _scatter(
    axes: Axes, rows: Sequence[ConfoundedClassifier], names: tuple[str, str, str, str], look: dict[str, Any]
) -> None:
    """``names``: the columns of x, y and the two ends of y's interval."""
    x, y, low, high = (np.array([getattr(row, name) for row in rows]) for name in names)
    spread = np.abs(np.stack([low, high]) - y)
    axes.errorbar(x, y, yerr=spread, fmt="none", ecolor=look["color"], elinewidth=0.7, alpha=0.35)
    axes.plot(x, y, linestyle="none", markersize=5, alpha=0.9, **look)


def _rank(found: RankCorrelation) -> str:
    return f"rank correlation {style.number(found.rho)} {style.interval(found.ci_low, found.ci_high)}, n = {found.n}"


def _name(pair: ConfoundedPair) -> str:
    return f"{pair.target}\n← {pair.confounder} (ρ = {style.number(pair.ranked['effect_gap'].rho)})"


def _dressed(axes: Axes, x: str, y: str, title: str) -> None:
    axes.axhline(0, color=style.RULE, linewidth=0.8, zorder=0)
    axes.set_xlabel(x, fontsize=9, color=style.INK)
    axes.set_ylabel(y, fontsize=9, color=style.INK)
    axes.set_title(title, fontsize=9, color=style.INK, loc="left")
    axes.tick_params(labelsize=8, colors=style.MUTED)
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(style.RULE)


def _legend(figure: Figure, axes: Axes) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=(0.85, 0.88),
        frameon=False,
        prop={"size": 8, "family": FAMILY},
        labelspacing=0.9,
    )
