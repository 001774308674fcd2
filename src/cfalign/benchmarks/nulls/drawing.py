"""The figure of the benchmark: what the first unnamed feature of classifiers with nothing to find does."""

from __future__ import annotations

from matplotlib.figure import Figure

from cfalign._discovery.options import DiscoveryOptions
from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign.benchmarks.nulls.result import Nulls

COLOURS = {"untrained": "#9aa3ad", "permuted": "#e69f00", "unplanted": "#0072b2"}


def nulls_figure(result: Nulls) -> Figure:
    """One point per classifier; a feature counts above and right of both lines."""
    figure = new_figure(6.4, 4.6)
    panel = figure.subplots()
    for kind in dict.fromkeys(audit.kind for audit in result.audits):
        mine = [audit for audit in result.audits if audit.kind == kind]
        x, y = [a.unnamed_effect for a in mine], [a.unnamed_explains for a in mine]
        panel.plot(x, y, "o", color=COLOURS.get(kind, style.INK), markersize=5, alpha=0.8, label=kind)
    panel.axvline(DiscoveryOptions().min_effect, color=style.RULE, linewidth=0.9)
    panel.axhline(DiscoveryOptions().min_explained, color=style.RULE, linewidth=0.9)
    panel.set_xlabel("effect of the first unnamed feature", fontsize=9, color=style.INK)
    panel.set_ylabel("share of the unexplained that it explains", fontsize=9, color=style.INK)
    panel.legend(frameon=False, fontsize=8.5)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8.5, colors=style.INK)
    figure.tight_layout()
    return figure
