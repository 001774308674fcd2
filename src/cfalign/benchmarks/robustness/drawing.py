"""What an audit says of a shortcut, against the gap of the worst group: one point a trained classifier."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign.benchmarks.robustness.measure import Measured
from cfalign.benchmarks.robustness.result import Robustness

COLOURS = {"erm": "#1b1f24", "group_dro": "#0072b2", "jtt": "#e69f00", "dfr": "#009e73", "rex": "#cc79a7"}
"""Of methods; told apart by colour-blind readers too."""
TITLES = {"erm": "ERM", "group_dro": "GroupDRO", "jtt": "JTT", "dfr": "DFR", "rex": "V-REx"}
MARKERS = ("X", "o", "s", "^", "D", "v")
"""Of doses, in their order."""


def robustness_figure(result: Robustness) -> Figure:
    """A panel per pair: |unmixed effect| of the shortcut with its interval, against the worst-group gap."""
    pairs = result.options.pairs
    figure = new_figure(1.0 + 3.6 * len(pairs), 4.6)
    axes = figure.subplots(1, len(pairs), sharex=True, sharey=True, squeeze=False)[0]
    doses = sorted({row.dose for row in result.classifiers})
    marker = {dose: MARKERS[k % len(MARKERS)] for k, dose in enumerate(doses)}
    within = result.agreements["rank_effect_gap"]
    for panel, (target, shortcut) in zip(axes, pairs, strict=True):
        rows = [row for row in result.classifiers if (row.target, row.shortcut) == (target, shortcut)]
        for row in rows:
            _point(panel, row, marker[row.dose])
        found = within[f"{target}_from_{shortcut}"]
        panel.set_title(f"{_spoken(target)} ← {_spoken(shortcut)}", fontsize=10, color=style.INK, weight="bold", pad=18)
        interval = style.interval(found.ci_low, found.ci_high)
        told = f"rank correlation {style.number(found.rank)} {interval}, n = {found.n}"
        panel.text(0.5, 1.025, told, transform=panel.transAxes, ha="center", fontsize=8, color=style.MUTED)
        panel.set_xlabel("|effect| of the shortcut, from the audit", fontsize=9, color=style.INK)
        panel.axhline(0, color=style.RULE, linewidth=0.8, zorder=0)
        panel.axvline(0, color=style.RULE, linewidth=0.8, zorder=0)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8, colors=style.INK)
    axes[0].set_ylabel("mean − worst-group accuracy", fontsize=9, color=style.INK)
    present = [m for m in result.options.methods if any(row.method == m for row in result.classifiers)]
    keys = [_key("o", COLOURS[m], TITLES[m]) for m in present]
    keys += [_key(marker[d], style.MUTED, f"dose {d:g}") for d in doses]
    figure.legend(handles=keys, loc="lower center", ncols=min(len(keys), 4 * len(pairs)), frameon=False, fontsize=8.5)
    figure.tight_layout(rect=(0, 0.02 + 0.055 * int(np.ceil(len(keys) / (4 * len(pairs)))), 1, 1))
    return figure


def _point(panel: Axes, row: Measured, marker: str) -> None:
    low, high = sorted((abs(row.ci_low), abs(row.ci_high)))
    low = 0.0 if row.ci_low < 0 < row.ci_high else low
    colour = COLOURS[row.method]
    panel.plot([low, high], [row.gap, row.gap], color=colour, linewidth=0.8, alpha=0.35, zorder=1)
    panel.plot(
        [abs(row.effect)], [row.gap], marker=marker, color=colour, markersize=6.5, alpha=0.85, linestyle="none",
        markeredgecolor=style.PAPER, markeredgewidth=0.6, zorder=2,
    )  # fmt: skip


def _key(marker: str, colour: str, label: str) -> Line2D:
    return Line2D([], [], marker=marker, color=colour, linestyle="none", markersize=6.5, label=label)


def _spoken(name: str) -> str:
    return name.replace("_", " ")
