"""The figure that compares methods of making counterfactuals: one panel per measure, one row per method."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign.benchmarks.counterfactuals.result import Comparison, Estimate

PANELS: tuple[tuple[str, str, str], ...] = (
    ("oracle_drop", "oracle's drop", "more is better"),
    ("off_oracle_drop", "oracle's drop, switched off", "more is better"),
    ("rank1", "heads whose factor moves most", "more is better"),
    ("adversarial", "adversarial flips", "less is better"),
    ("removed", "share of the true edit", "1 is the edit"),
    ("off_removed", "share of the true edit, off", "1 is the edit"),
    ("validity", "share that lands", "more is better"),
    ("mnac", "attributes changed (MNAC)", "1 is the least"),
    ("l1", "L1 per pixel", ""),
    ("cout", "COUT", "more is better"),
    ("frechet", "Fréchet distance", "dashed: real images"),
    ("seconds_ratio", "seconds / latent-shift", "less is better"),
)
_COLUMNS = 4


def methods_figure(result: Comparison) -> Figure:
    """Twelve panels, each with a dot and an interval per method where the measure is defined."""
    rows = math.ceil(len(PANELS) / _COLUMNS)
    figure = new_figure(11.0, 1.75 * rows + 0.5)
    panels = figure.subplots(rows, _COLUMNS, squeeze=False)
    figure.subplots_adjust(0.085, 0.06, 0.99, 0.9, wspace=0.12, hspace=0.75)
    for number, (axes, (key, title, hint)) in enumerate(zip(panels.flat, PANELS, strict=True)):
        values = {method: table[key] for method, table in result.methods.items()}
        _estimates(axes, values)
        axes.set_yticks(range(len(values)), list(values) if number % _COLUMNS == 0 else [""] * len(values))
        _dressed(axes, title, hint)
        if key == "frechet":
            axes.axvline(result.beside["frechet_real"].value, color=style.MUTED, linestyle="--", linewidth=0.9)
    counts = [table["drop"].n for table in result.methods.values()]
    title = (
        f"Methods of making counterfactuals: means over {min(counts)} to {max(counts)} pairs that landed, "
        "95 % intervals over faces"
    )
    figure.suptitle(title, fontsize=9.5, color=style.INK, y=0.985)
    return figure


def _estimates(axes: Axes, values: Mapping[str, Estimate]) -> None:
    for y, (method, e) in enumerate(values.items()):
        if not math.isfinite(e.value):
            continue
        colour = style.POSITIVE if method == "pixels" else style.NEGATIVE
        low, high = (end if math.isfinite(end) else e.value for end in (e.low, e.high))
        axes.plot([low, high], [y, y], color=colour, linewidth=2)
        axes.plot([e.value], [y], marker="o", color=colour, markersize=5)
    axes.set_ylim(len(values) - 0.5, -0.5)
    ends = [end for e in values.values() for end in (e.value, e.low, e.high) if math.isfinite(end)]
    low, high = min([0.0, *ends]), max([*ends, 1e-6])
    axes.set_xlim(low - 0.05 * (high - low), high + 0.08 * (high - low))


def _dressed(axes: Axes, title: str, hint: str) -> None:
    axes.set_title(title, fontsize=8, color=style.INK, pad=3)
    axes.set_xlabel(hint, fontsize=7, color=style.MUTED, labelpad=1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=7, colors=style.INK, length=2)
    axes.grid(axis="x", color=style.FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(style.RULE)
