"""The figure of the benchmark: accuracy of effects under imperfect reference heads, and leaks of those heads."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign.benchmarks.references.options import EMBEDDED
from cfalign.benchmarks.references.result import MeasuredReference, References

COLOURS = {
    "plain": "#8c959f",
    "reconstructed": "#e69f00",
    "judged": "#cc79a7",
    "balanced": "#0072b2",
    "balanced_judged": "#009e73",
    EMBEDDED: "#1b1f24",
}
"""Colours of variants, distinct for colour-blind readers."""
TITLES = {
    "plain": "plain",
    "reconstructed": "with reconstructions",
    "judged": "… and a judge",
    "balanced": "balanced labels",
    "balanced_judged": "… and a judge",
    EMBEDDED: "embedded, not confounded",
}
PANELS = (
    ("auroc_used_here", "AUROC: which attributes are used", "95 % interval over audited classifiers"),
    ("rmse_effect_here", "RMSE of effects", "truth over faces as audited"),
)
"""Name of the number, title and axis label of the first two panels."""


def references_figure(result: References) -> Figure:
    """One row per reference: AUROC and RMSE against the truth over faces as audited, with intervals over classifiers;
    and the leaks of its heads, the true effects of their partners in training.
    """
    rows = list(reversed(result.measured))
    figure = new_figure(11.5, 1.4 + 0.32 * max(len(rows), 3))
    scores, errors, leaks = figure.subplots(1, 3, sharey=True, width_ratios=(1, 1, 0.9))
    for panel, (number, title, label) in zip((scores, errors), PANELS, strict=True):
        _scores(panel, rows, number)
        _finished(panel, title, label)
    _leaks(leaks, rows)
    _finished(leaks, "What heads see of the partner", "true effect; dot: mean, lines: single heads")
    scores.set_yticks(range(len(rows)), [_name(row) for row in rows])
    scores.set_xlim(right=1.01)
    errors.set_xlim(left=0)
    leaks.set_xlim(left=0)
    figure.tight_layout()
    return figure


def _scores(panel: Axes, rows: list[MeasuredReference], number: str) -> None:
    for y, row in enumerate(rows):
        found, colour = row.scores[number], COLOURS[row.variant]
        panel.plot([found.ci_low, found.ci_high], [y, y], color=colour, linewidth=1.4)
        panel.plot([found.value], [y], "o", color=colour, markersize=6)


def _leaks(panel: Axes, rows: list[MeasuredReference]) -> None:
    for y, row in enumerate(rows):
        colour = COLOURS[row.variant]
        leaks = np.array([head.leak for head in row.heads if np.isfinite(head.leak)])
        panel.plot(leaks, np.full(len(leaks), y), "|", color=colour, markersize=8, alpha=0.6)
        panel.plot([row.mean("leak")], [y], "o", color=colour, markersize=6)


def _name(row: MeasuredReference) -> str:
    title = TITLES[row.variant]
    return title if row.variant == EMBEDDED else f"dose {row.dose:g}, {row.faces:,} faces: {title}"


def _finished(panel: Axes, title: str, label: str) -> None:
    panel.set_title(title, fontsize=10, color=style.INK, weight="bold", loc="left")
    panel.set_xlabel(label, fontsize=8.5, color=style.INK)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8.5, colors=style.INK)
    panel.grid(axis="x", color=style.RULE, linewidth=0.5)
    panel.set_axisbelow(True)
