"""The figure of the benchmark: detectors against the truth, and effects by dose of the planted shortcut."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign.benchmarks.detection.result import DETECTORS, USED, Detection, DoseMeans

NAMES = {
    "effect": "effect (unmixed incoming)",
    "incoming": "incoming ψ",
    "outgoing": "outgoing ψ, mean",
    "outgoing_ratio": "outgoing ψ, ratio of means",
    "outgoing_median": "outgoing ψ, median",
    "outgoing_logit": "outgoing ψ on logits",
    "prediction_correlation": "prediction correlation",
    "label_correlation": "label correlation",
    "saliency_gradient": "saliency, input gradient",
    "saliency_integrated": "saliency, integrated gradients",
    "saliency_guided": "saliency, guided backprop",
    "tcav": "directional derivative (TCAV)",
}
INK, BLUE, ORANGE = "#1b1f24", "#0072b2", "#e69f00"
CURVES = {
    "truth_here": ("true effect", INK, "-"),
    "effect": ("effect from the audit", BLUE, "-"),
    "outgoing": ("outgoing ψ", ORANGE, "--"),
}
"""Column of ``DoseMeans`` → its name, colour and line."""


def detection_figure(result: Detection) -> Figure:
    """Left: average precision of every detector, which suits a small share of used pairs. Right: effect, truth and
    outgoing ψ of the shortcut by dose.
    """
    figure = new_figure(11.5, 5.0)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _detectors(left, result)
    _doses(right, result)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8.5, colors=style.INK)
    figure.tight_layout()
    return figure


def _detectors(panel: Axes, result: Detection) -> None:
    scores = {name: result.scores(name, "truth_here")["average_precision"] for name in DETECTORS}
    defined = {name: score.value == score.value for name, score in scores.items()}
    order = sorted(scores, key=lambda name: (defined[name], scores[name].value))
    for y, name in enumerate(order):
        found = scores[name]
        colour = BLUE if name == "effect" else style.INK
        panel.plot([found.ci_low, found.ci_high], [y, y], color=colour, linewidth=1.4)
        panel.plot([found.value], [y], "o", color=colour, markersize=6)
        panel.text(1.02, y, style.number(found.value), va="center", fontsize=8.5, color=colour, clip_on=False)
    panel.set_yticks(range(len(order)), [NAMES[name] for name in order])
    panel.set_xlim(0, 1.01)
    panel.set_xlabel("average precision, 95 % interval over classifiers", fontsize=9, color=style.INK)
    used = sum(abs(pair.truth_here) > USED for pair in result.pairs)
    _title(panel, f"Which of {len(result.pairs):,} attributes are used? {used} are")


def _doses(panel: Axes, result: Detection) -> None:
    rows = result.doses
    for target in dict.fromkeys(row.target for row in rows):
        mine = [row for row in rows if row.target == target]
        if target == "all":
            _mean_curves(panel, mine)
        else:
            doses, effects = [row.dose for row in mine], [row.effect for row in mine]
            panel.plot(doses, effects, "-", color=BLUE, linewidth=0.7, alpha=0.35)
    panel.axhline(0, color=style.RULE, linewidth=0.8, zorder=0)
    panel.set_xlabel("dose: correlation of target and shortcut in training", fontsize=9, color=style.INK)
    panel.set_ylabel("mean over pairs and seeds; thin: single targets", fontsize=9, color=style.INK)
    _title(panel, "Dose and response")
    panel.legend(frameon=False, fontsize=8.5, loc="upper left")


def _mean_curves(panel: Axes, rows: list[DoseMeans]) -> None:
    doses = [row.dose for row in rows]
    for name, (label, colour, line) in CURVES.items():
        values = [getattr(row, name) for row in rows]
        panel.plot(doses, values, line, color=colour, linewidth=2.2, marker="o", markersize=4, label=label)


def _title(panel: Axes, words: str) -> None:
    panel.set_title(words, fontsize=10, color=style.INK, weight="bold", loc="left")
