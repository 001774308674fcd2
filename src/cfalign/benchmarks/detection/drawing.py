"""Detectors against the truth, and what the dose of a planted shortcut does."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign.benchmarks.detection.detectors import DETECTORS
from cfalign.benchmarks.detection.measure import USED, Detection

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
CURVES = {"truth_here": ("true effect", "#1b1f24", "-"), "effect": ("effect from the audit", "#0072b2", "-"),
          "outgoing": ("outgoing ψ", "#e69f00", "--")}  # fmt: skip


def detection_figure(result: Detection) -> Figure:
    """Left: average precision of every detector, for few pairs are used; right: effect, truth and outgoing ψ of the
    shortcut by dose.
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
    order = sorted(scores, key=lambda name: (scores[name].value == scores[name].value, scores[name].value))
    for y, name in enumerate(order):
        found = scores[name]
        colour = "#0072b2" if name == "effect" else style.INK
        panel.plot([found.ci_low, found.ci_high], [y, y], color=colour, linewidth=1.4)
        panel.plot([found.value], [y], "o", color=colour, markersize=6)
        panel.text(1.02, y, style.number(found.value), va="center", fontsize=8.5, color=colour, clip_on=False)
    panel.set_yticks(range(len(order)), [NAMES[n] for n in order])
    panel.set_xlim(0, 1.01)
    used = sum(abs(p.truth_here) > USED for p in result.pairs)
    panel.set_xlabel("average precision, 95 % interval over classifiers", fontsize=9, color=style.INK)
    panel.set_title(
        f"Which of {len(result.pairs):,} attributes are used? {used} are", fontsize=10,
        color=style.INK, weight="bold", loc="left",
    )  # fmt: skip


def _doses(panel: Axes, result: Detection) -> None:
    rows = result.doses
    for target in dict.fromkeys(d.target for d in rows):
        mine = [d for d in rows if d.target == target]
        doses = [d.dose for d in mine]
        for name, (label, colour, line) in CURVES.items():
            values = [getattr(d, name) for d in mine]
            if target == "all":
                panel.plot(doses, values, line, color=colour, linewidth=2.2, marker="o", markersize=4, label=label)
            elif name == "effect":
                panel.plot(doses, values, "-", color=colour, linewidth=0.7, alpha=0.35)
    panel.axhline(0, color=style.RULE, linewidth=0.8, zorder=0)
    panel.set_xlabel("dose: correlation of target and shortcut in training", fontsize=9, color=style.INK)
    panel.set_ylabel("mean over pairs and seeds; thin: single targets", fontsize=9, color=style.INK)
    panel.set_title("Dose and response", fontsize=10, color=style.INK, weight="bold", loc="left")
    panel.legend(frameon=False, fontsize=8.5, loc="upper left")
