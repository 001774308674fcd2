"""The figure of the benchmark: effect of the shortcut against the worst-group gap, one point per classifier."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign.benchmarks.agreement import RankCorrelation
from cfalign.benchmarks.robustness.result import RobustClassifier, Robustness

COLOURS = {"erm": "#1b1f24", "group_dro": "#0072b2", "jtt": "#e69f00", "dfr": "#009e73", "rex": "#cc79a7"}
"""Colours of methods, distinct for colour-blind readers."""
TITLES = {"erm": "ERM", "group_dro": "GroupDRO", "jtt": "JTT", "dfr": "DFR", "rex": "V-REx"}
MARKERS = ("X", "o", "s", "^", "D", "v")
"""Markers of doses, in their order."""
KEYS_IN_A_ROW = 4
"""Keys of the legend below each panel."""


def robustness_figure(result: Robustness) -> Figure:
    """One panel per pair: |unmixed effect| of the shortcut with its interval, against the worst-group gap."""
    pairs = result.options.pairs
    figure = new_figure(1.0 + 3.6 * len(pairs), 4.6)
    axes = figure.subplots(1, len(pairs), sharex=True, sharey=True, squeeze=False)[0]
    doses = sorted({row.dose for row in result.classifiers})
    markers = {dose: MARKERS[k % len(MARKERS)] for k, dose in enumerate(doses)}
    within = result.agreements["rank_effect_gap"]
    for panel, (target, shortcut) in zip(axes, pairs, strict=True):
        for row in result.classifiers:
            if (row.target, row.shortcut) == (target, shortcut):
                _point(panel, row, markers[row.dose])
        _titled(panel, target, shortcut, within[f"{target}_from_{shortcut}"])
        _dressed(panel)
    axes[0].set_ylabel("mean − worst-group accuracy", fontsize=9, color=style.INK)
    _legend(figure, result, markers, columns=KEYS_IN_A_ROW * len(pairs))
    return figure


def _point(panel: Axes, row: RobustClassifier, marker: str) -> None:
    low, high = sorted((abs(row.ci_low), abs(row.ci_high)))
    low = 0.0 if row.ci_low < 0 < row.ci_high else low
    colour = COLOURS[row.method]
    panel.plot([low, high], [row.gap, row.gap], color=colour, linewidth=0.8, alpha=0.35, zorder=1)
    panel.plot(
        [abs(row.effect)],
        [row.gap],
        marker=marker,
        color=colour,
        markersize=6.5,
        alpha=0.85,
        linestyle="none",
        markeredgecolor=style.PAPER,
        markeredgewidth=0.6,
        zorder=2,
    )


def _titled(panel: Axes, target: str, shortcut: str, found: RankCorrelation) -> None:
    names = " ← ".join(name.replace("_", " ") for name in (target, shortcut))
    panel.set_title(names, fontsize=10, color=style.INK, weight="bold", pad=18)
    interval = style.interval(found.ci_low, found.ci_high)
    words = f"rank correlation {style.number(found.rho)} {interval}, n = {found.n}"
    panel.text(0.5, 1.025, words, transform=panel.transAxes, ha="center", fontsize=8, color=style.MUTED)


def _dressed(panel: Axes) -> None:
    panel.set_xlabel("|effect| of the shortcut, from the audit", fontsize=9, color=style.INK)
    panel.axhline(0, color=style.RULE, linewidth=0.8, zorder=0)
    panel.axvline(0, color=style.RULE, linewidth=0.8, zorder=0)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8, colors=style.INK)


def _legend(figure: Figure, result: Robustness, markers: Mapping[float, str], *, columns: int) -> None:
    present = {row.method for row in result.classifiers}
    keys = [_key("o", COLOURS[method], TITLES[method]) for method in result.options.methods if method in present]
    keys += [_key(marker, style.MUTED, f"dose {dose:g}") for dose, marker in markers.items()]
    figure.legend(handles=keys, loc="lower center", ncols=min(len(keys), columns), frameon=False, fontsize=8.5)
    rows = math.ceil(len(keys) / columns)
    figure.tight_layout(rect=(0, 0.02 + 0.055 * rows, 1, 1))


def _key(marker: str, colour: str, label: str) -> Line2D:
    return Line2D([], [], marker=marker, color=colour, linestyle="none", markersize=6.5, label=label)
