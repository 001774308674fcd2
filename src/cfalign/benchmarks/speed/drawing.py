"""The figure of the benchmark: seconds, decoder passes, classifier passes and memory, a row per contestant."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign.benchmarks.speed.apart import CONTESTANTS
from cfalign.benchmarks.speed.result import EmbeddedPart, Speed, Spread

TITLES = ("milliseconds", "decoder passes", "classifier forwards", "memory over the models, MB")
HINTS = ("dashed: the floor", "forward and backward; dashed: the floor", "dashed: the floor", "")


def speed_figure(result: Speed) -> Figure:
    """Four panels with a dot per contestant, and the range over the rounds; the scale of decoder passes is linear."""
    part = result.embedded
    figure = new_figure(11.0, 2.4)
    panels = figure.subplots(1, len(TITLES))
    figure.subplots_adjust(0.12, 0.25, 0.985, 0.78, wspace=0.18)
    for number, axes in enumerate(panels):
        _dots(axes, _values(part, number), logarithmic=number != 1)
        axes.set_yticks(range(len(CONTESTANTS)), CONTESTANTS if number == 0 else [""] * len(CONTESTANTS))
        _dressed(axes, TITLES[number], HINTS[number])
    for axes, least in zip(panels, _floors(part), strict=False):
        axes.axvline(least, color=style.MUTED, linestyle="--", linewidth=0.9)
    threads = f"{part.threads} thread{'s' * (part.threads != 1)}"
    title = f"What a counterfactual costs: {part.images} faces, {part.bases} bases × {part.heads} heads, {threads}"
    figure.suptitle(title, fontsize=9.5, color=style.INK, y=0.975)
    return figure


def _values(part: EmbeddedPart, number: int) -> Mapping[str, Spread]:
    found = {}
    for name in CONTESTANTS:
        counted = part.of(name)
        once = (counted.passes.decoder_equivalents, counted.passes.scored, counted.memory)
        seconds = [1e3 * value for value in part.seconds(name)]
        found[name] = Spread.of(seconds if number == 0 else [once[number - 1]])
    return found


def _floors(part: EmbeddedPart) -> tuple[float, float, float]:
    """Milliseconds, decoder passes and classifier forwards of the floor of the bare method."""
    share = part.images / part.pairs
    return 1e3 * Spread.of(part.floors(CONTESTANTS[0])).median, 2 + share, 1 + 2 * share


def _dots(axes: Axes, values: Mapping[str, Spread], *, logarithmic: bool) -> None:
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    for y, spread in enumerate(values.values()):
        if not math.isfinite(spread.median) or spread.median <= 0:
            continue
        axes.plot([spread.low, spread.high], [y, y], color=style.NEGATIVE, linewidth=2)
        axes.plot([spread.median], [y], marker="o", color=style.NEGATIVE, markersize=5)
        words = f"{spread.median:.3g}"
        axes.annotate(words, (spread.median, y), (0, 5), textcoords="offset points", fontsize=7, ha="center")
    axes.set_ylim(len(values) - 0.5, -0.7)
    axes.margins(x=0.2)


def _dressed(axes: Axes, title: str, hint: str) -> None:
    axes.set_title(title, fontsize=8, color=style.INK, pad=3)
    axes.set_xlabel(hint, fontsize=7, color=style.MUTED, labelpad=1)
    axes.tick_params(labelsize=7, colors=style.INK, length=2)
    axes.grid(axis="x", color=style.FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(style.RULE)
