"""The figure of the benchmark on photographs: effect against gap, and both against the dose."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfalign.benchmarks import Photographs
from cfalign.benchmarks.dose_response import Pair
from cfalign.figures import style
from cfalign.figures.pixels import FAMILY, new_figure

COLOURS = ("#1b6ca8", "#d1495b", "#2a7f62", "#b8860b", "#6a4c93", "#3d5a80", "#8d5524", "#5d6671")
MARKERS = "osD^vPX*"


def photographs_figure(result: Photographs) -> Figure:
    """Left: every classifier's worst-group gap and the confounder's effect with its interval. Right: the mean effect
    (over seeds) at every dose.
    """
    figure = new_figure(12.0, 4.9)
    left, right = figure.add_axes((0.065, 0.13, 0.36, 0.74)), figure.add_axes((0.485, 0.13, 0.28, 0.74))
    for k, pair in enumerate(result.pairs):
        look: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
        mine = result.of(pair)
        effect, gap = (np.array([getattr(m, n) for m in mine]) for n in ("effect", "gap"))
        spread = np.abs(np.array([[m.ci_low, m.ci_high] for m in mine]).T - effect)
        left.errorbar(gap, effect, yerr=spread, fmt="none", ecolor=look["color"], elinewidth=0.7, alpha=0.35)
        left.plot(gap, effect, linestyle="none", markersize=5, alpha=0.9, **look)
        means = [np.mean([m.effect for m in result.of(pair, dose)]) for dose in pair.doses]
        right.plot(pair.doses, means, linewidth=1.4, markersize=5, label=_name(pair), **look)
    pooled = result.pooled["effect_gap"]
    words = (
        f"rank correlation {style.number(pooled.rho)} {style.interval(pooled.ci_low, pooled.ci_high)}, n = {pooled.n}"
    )
    _dressed(left, "worst-group gap (labels)", "effect of the confounder (unmixed)", words)
    _dressed(right, "correlation of target and confounder in training", "", "mean over seeds")
    right.set_ylim(left.get_ylim())
    figure.legend(
        *right.get_legend_handles_labels(), loc="upper left", bbox_to_anchor=(0.775, 0.88), frameon=False,
        prop={"size": 8, "family": FAMILY}, labelspacing=0.9,
    )  # fmt: skip
    return figure


def _name(pair: Pair) -> str:
    return f"{pair.target}\n← {pair.confounder} (ρ = {style.number(pair.ranked['effect_gap'].rho)})"


def _dressed(axes: Axes, x: str, y: str, title: str) -> None:
    axes.axhline(0, color=style.RULE, linewidth=0.8, zorder=0)
    axes.set_xlabel(x, fontsize=9, color=style.INK)
    axes.set_ylabel(y, fontsize=9, color=style.INK)
    axes.set_title(title, fontsize=9, color=style.INK, loc="left")
    axes.tick_params(labelsize=8, colors=style.MUTED)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(style.RULE)
