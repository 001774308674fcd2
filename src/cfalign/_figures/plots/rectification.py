"""β and ψ at every step of a rectification, drawn as a PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cfalign._figures.style import INK, MUTED, NEGATIVE, POSITIVE, RULE


@dataclass(frozen=True)
class Curve:
    """β and ψ of one shortcut by step; NaN where ψ was not measured."""

    name: str
    steps: Sequence[int]
    beta: Sequence[float]
    train: Sequence[float]
    """Mean ψ on training images."""
    validation: Sequence[float]


def rectification_curves(curves: Sequence[Curve], path: str | Path, *, title: str, best_step: int) -> None:
    """Write a PNG: ψ above, β below, one column per shortcut; a dashed line marks the step that was kept."""
    figure = Figure(figsize=(1.2 + 3.9 * len(curves), 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, color=INK)
    axes = figure.subplots(2, len(curves), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 2))
    for column, curve in enumerate(curves):
        above, below = axes[0][column], axes[1][column]
        _psi(above, curve)
        _beta(below, curve)
        for panel in (above, below):
            panel.axhline(0, color=MUTED, linewidth=0.8)
            panel.axvline(best_step, color=MUTED, linewidth=1.0, linestyle="--")
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(labelsize=8.5, color=RULE)
        above.set_title(curve.name, fontsize=10, color=INK)
        below.set_xlabel(f"step (dashed: β of step {best_step} is kept)", fontsize=9)
        below.locator_params(axis="x", integer=True)
    axes[0][0].set_ylabel("mean ψ", fontsize=9)
    axes[1][0].set_ylabel("β", fontsize=9)
    axes[0][0].legend(frameon=False, fontsize=8.5)
    figure.savefig(path)


def _psi(panel: Axes, curve: Curve) -> None:
    """ψ on training and validation images; many training steps are drawn without markers."""
    training = {"marker": "o", "markersize": 5.0} if _few(curve) else {"alpha": 0.5}
    validation = {"marker": "s", "markersize": 5.0}
    for values, colour, name, look in (
        (curve.train, NEGATIVE, "training", training),
        (curve.validation, POSITIVE, "validation", validation),
    ):
        known = [(step, value) for step, value in zip(curve.steps, values, strict=True) if math.isfinite(value)]
        if known:
            panel.plot(*zip(*known, strict=True), color=colour, linewidth=1.4, label=name, **look)


def _beta(panel: Axes, curve: Curve) -> None:
    look: dict[str, Any] = {"marker": "o", "markersize": 4} if _few(curve) else {}
    panel.plot(curve.steps, curve.beta, color=INK, linewidth=1.4, **look)


def _few(curve: Curve) -> bool:
    """Whether there are few enough steps to mark each."""
    return len(curve.steps) <= 30
