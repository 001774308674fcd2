"""The figure of the benchmark: how well unnamed features order faces, against the true effect of what they are."""

from __future__ import annotations

from matplotlib.figure import Figure

from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign.benchmarks.unnamed.result import USED, Unnamed

BLUE, GREY = "#0072b2", "#9aa3ad"


def unnamed_figure(result: Unnamed) -> Figure:
    """Left: AUROC against the true effect, one point per planted classifier. Right: the effect of the first unnamed
    feature and what it explains; filled where it counts as found.
    """
    figure = new_figure(10.5, 4.4)
    left, right = figure.subplots(1, 2)
    for row in result.planted:
        left.plot(row.truth, row.auroc, "o", color=BLUE, markersize=6, fillstyle="full" if row.found else "none")
    left.axvline(USED, color=style.RULE, linewidth=0.8, zorder=0)
    left.set_xlabel("true effect of the planted shortcut", fontsize=9, color=style.INK)
    left.set_ylabel("AUROC of the feature for the shortcut", fontsize=9, color=style.INK)
    for rows, colour, label in ((result.planted, BLUE, "planted"), (result.nulls, GREY, "nothing to find")):
        for number, row in enumerate(rows):
            fill = "full" if row.found else "none"
            name = label if number == 0 else None
            right.plot(row.effect, row.explains, "o", color=colour, markersize=6, fillstyle=fill, label=name)
    right.set_xlabel("effect beyond named attributes", fontsize=9, color=style.INK)
    right.set_ylabel("share of the unexplained that it explains", fontsize=9, color=style.INK)
    right.legend(frameon=False, fontsize=8.5)
    for panel in (left, right):
        panel.set_title("filled: counts as found", fontsize=9, color=style.MUTED)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8.5, colors=style.INK)
    figure.tight_layout()
    return figure
