"""Effects under imperfect reference heads, beside what those heads truly see."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign.benchmarks.references.result import EMBEDDED, References

COLOURS = {
    "plain": "#8c959f", "reconstructed": "#e69f00", "judged": "#cc79a7", "balanced": "#0072b2",
    "balanced_judged": "#009e73", EMBEDDED: "#1b1f24",
}  # fmt: skip
"""Of variants; told apart by colour-blind readers too."""
TITLES = {"plain": "plain", "reconstructed": "with reconstructions", "judged": "… and a judge",
          "balanced": "balanced labels", "balanced_judged": "… and a judge",
          EMBEDDED: "embedded, not confounded"}  # fmt: skip
PANELS = (("auroc_used_here", "AUROC: which attributes are used"), ("rmse_effect_here", "RMSE of effects"))


def references_figure(result: References) -> Figure:
    """A row per reference: AUROC and RMSE against the truth on faces as audited, with intervals over classifiers, and
    the mean effect that the partner of training truly has on a reference head.
    """
    rows = list(reversed(result.measured))
    figure = new_figure(11.5, 1.4 + 0.32 * max(len(rows), 3))
    axes = figure.subplots(1, 3, sharey=True, width_ratios=(1, 1, 0.9))
    for panel, (number, title) in zip(axes, PANELS, strict=False):
        for y, m in enumerate(rows):
            found, colour = m.scores[number], COLOURS[m.variant]
            panel.plot([found.ci_low, found.ci_high], [y, y], color=colour, linewidth=1.4)
            panel.plot([found.value], [y], "o", color=colour, markersize=6)
        _finished(panel, title)
    for y, m in enumerate(rows):
        leaks = np.array([h.leak for h in m.heads if np.isfinite(h.leak)])
        axes[2].plot(leaks, np.full(len(leaks), y), "|", color=COLOURS[m.variant], markersize=8, alpha=0.6)
        axes[2].plot([m.mean("leak")], [y], "o", color=COLOURS[m.variant], markersize=6)
    _finished(axes[2], "What heads see of the partner")
    axes[0].set_yticks(range(len(rows)), [_told(m.variant, m.dose, m.faces) for m in rows])
    axes[0].set_xlim(right=1.01)
    axes[1].set_xlim(left=0)
    axes[2].set_xlim(left=0)
    axes[0].set_xlabel("95 % interval over audited classifiers", fontsize=8.5, color=style.INK)
    axes[1].set_xlabel("truth over faces as audited", fontsize=8.5, color=style.INK)
    axes[2].set_xlabel("true effect; dot: mean, lines: single heads", fontsize=8.5, color=style.INK)
    figure.tight_layout()
    return figure


def _told(variant: str, dose: float, faces: int) -> str:
    return TITLES[variant] if variant == EMBEDDED else f"dose {dose:g}, {faces:,} faces: {TITLES[variant]}"


def _finished(panel: Axes, title: str) -> None:
    panel.set_title(title, fontsize=10, color=style.INK, weight="bold", loc="left")
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8.5, colors=style.INK)
    panel.grid(axis="x", color=style.RULE, linewidth=0.5)
    panel.set_axisbelow(True)
