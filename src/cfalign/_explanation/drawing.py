"""One image explained, as a figure: the walk as a strip, where it changed, saliency, and how the heads answered."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from cfalign._explanation.explained import ExplainedBase, ExplainedImage
from cfalign._figures import style
from cfalign._figures.plots.pixels import Pixels, change, heat_map, largest, new_figure, picture, signed_map
from cfalign._figures.svg.alignment import Walk, labelled_heads, spread
from cfalign._results import StartsAt

Place = Callable[[float, float, float, float], Axes]
_WIDTH, _BLOCK, _TOP = 11.0, 5.2, 0.3
_STEPS = 5
"""Steps of the strip from x0 to the counterfactual."""


def explanation_figure(explanation: ExplainedImage) -> Figure:
    """A block per base: strip, maps and alignment plot."""
    height = _TOP + _BLOCK * len(explanation.bases)
    figure = new_figure(_WIDTH, height)
    figure.text(0.012, 1 - 0.16 / height, explanation.name, fontsize=10, weight="bold", color=style.INK, va="center")
    for number, base in enumerate(explanation.bases):
        bottom = (height - _TOP - (number + 1) * _BLOCK) / height
        _block(figure, explanation, base, bottom=bottom, height=_BLOCK / height)
    return figure


def walk_of(explanation: ExplainedImage, base: ExplainedBase) -> Walk:
    """The walk as the alignment plot wants it."""
    columns = zip(explanation.heads, base.scores.T.tolist(), strict=True)
    scores = {name: tuple(column) for name, column in columns if name != base.base}
    return Walk(explanation.name, base.base, tuple(base.base_scores.tolist()), scores)


def heading(base: ExplainedBase) -> str:
    """What was done, in one line."""
    verb = "raised" if base.increased else "lowered"
    if not base.outcome.walked:
        return f"{base.base}: no counterfactual ({base.outcome.replace('_', ' ')})"
    ends = f"{style.number(base.base_scores[0])} to {style.number(base.base_scores[-1])}"
    where = f"λ = {base.lambdas[-1]:.3g}, " if math.isfinite(base.lambdas[-1]) else ""
    return f"{base.base} {verb} from {ends}   ({where}{base.outcome.replace('_', ' ')})"


def _block(figure: Figure, explanation: ExplainedImage, base: ExplainedBase, *, bottom: float, height: float) -> None:
    def place(x: float, y: float, w: float, h: float) -> Axes:
        """Inches from the lower left corner of the block."""
        return figure.add_axes((x / _WIDTH, bottom + y / _BLOCK * height, w / _WIDTH, h / _BLOCK * height))

    figure.text(0.012, bottom + height * (1 - 0.14 / _BLOCK), heading(base), fontsize=9, color=style.INK, va="center")
    side, gap = 1.42, 0.12
    for at, (image, title, score) in enumerate(_strip(explanation, base)):
        axes = place(0.13 + at * (side + gap), 3.3, side, side)
        picture(axes, image, title, size=7.5)
        axes.set_xlabel(f"score {style.number(score)}", fontsize=7.5, color=style.MUTED, labelpad=2)
    _maps(explanation, base, place)
    _alignment(place(5.2, 0.46, 3.4, 2.34), walk_of(explanation, base), explanation.options.search.start)


def _maps(explanation: ExplainedImage, base: ExplainedBase, place: Place) -> None:
    first, last = (pixels(base.frames[at]) for at in (0, -1))
    moved = change(first, last)
    signed = place(0.13, 1.62, 1.25, 1.25)
    signed_map(signed, moved, "change")
    signed.set_xlabel(f"red brighter, ±{largest(moved):.2f}", fontsize=6.5, color=style.MUTED, labelpad=2)
    difference = np.asarray(base.difference, dtype=np.float32)
    where = place(1.63, 1.62, 1.25, 1.25)
    heat_map(where, difference, f"difference ({explanation.options.difference})")
    where.set_xlabel(f"0 to {largest(difference):.2g}", fontsize=6.5, color=style.MUTED, labelpad=2)
    for at, (method, values) in enumerate(base.saliency.items()):
        axes = place(0.13 + at * 1.5, 0.06, 1.25, 1.25)
        heat_map(axes, np.asarray(values, dtype=np.float32), method)


def _strip(explanation: ExplainedImage, base: ExplainedBase) -> list[tuple[Pixels, str, float]]:
    """Image, title and base score of every picture in the strip: the original once, also where it is x0."""
    start, last = explanation.options.search.start, len(base.frames) - 1
    chosen = sorted({round(at) for at in np.linspace(0, last, min(_STEPS + 1, last + 1))})
    column = explanation.heads.index(base.base)
    strip = []
    if start is StartsAt.RECONSTRUCTION:
        strip.append((pixels(explanation.image), "original", float(explanation.image_scores[column])))
    way = "λ" if math.isfinite(base.lambdas[-1]) else "the way"
    for at in chosen:
        title = {0: start.picture, last: "counterfactual"}.get(at, f"{at / last:.0%} of {way}")
        strip.append((pixels(base.frames[at]), title, float(base.base_scores[at])))
    return strip


def pixels(image: Tensor) -> Pixels:
    """An image [c, h, w] as [h, w, 3]."""
    values: Pixels = image.float().clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()
    return values


def _alignment(axes: Axes, walk: Walk, start: StartsAt) -> None:
    """Base score, as the walk goes, against the scores of the other heads; the labelled ones with their ψ."""
    shown = labelled_heads(walk, each=5)
    x = np.asarray(walk.base_scores)
    for head, scores in walk.scores.items():
        if head not in shown:
            axes.plot(x, scores, color="#c3c9d0", linewidth=0.6, zorder=1)
    axes.plot(x, x, color=style.OWN, linewidth=1.2, linestyle=(0, (4, 3)), zorder=2)
    for head in shown:
        axes.plot(x, walk.scores[head], color=_colour(walk, head), linewidth=1.4, zorder=3)
    low, high = float(np.nanmin(x)), float(np.nanmax(x))
    if high - low > 1e-6:
        axes.set_xlim((low, high) if walk.base_scores[-1] > walk.base_scores[0] else (high, low))
    bottom, top = _range(walk)
    axes.set_ylim(bottom, top)
    axes.set_title("red moves with the base, blue against it", fontsize=7.5, color=style.MUTED, pad=3)
    axes.set_xlabel(f"score of {style.clip(walk.base, 40)}: {start.picture} → counterfactual", fontsize=7.5)
    axes.set_ylabel("score of each head", fontsize=7.5)
    axes.tick_params(labelsize=7, color=style.MUTED, labelcolor=style.MUTED, length=2.5)
    axes.grid(axis="y", color=style.RULE, linewidth=0.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(style.RULE)
    _labels(axes, walk, shown)


def _labels(axes: Axes, walk: Walk, shown: list[str]) -> None:
    ends = {head: _end(walk, head) for head in (walk.base, *shown)}
    ends = {head: end for head, end in ends.items() if math.isfinite(end)}
    order = sorted(ends, key=lambda head: (ends[head], head))
    bottom, top = _range(walk)
    share = {head: (end - bottom) / (top - bottom) for head, end in ends.items()}
    places = spread([share[head] for head in order], spacing=0.072, low=0.0, high=1.0)
    for head, y in zip(order, places, strict=True):
        own = head == walk.base
        colour = style.OWN if own else _colour(walk, head)
        words = f"{style.clip(head, 26)} " + ("(base)" if own else f"ψ {style.signed(walk.psi(head))}")
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            words,
            xy=(1.0, share[head]),
            xytext=(1.06, y),
            xycoords="axes fraction",
            textcoords="axes fraction",
            fontsize=7.5,
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops={**leader, "relpos": (0.0, 0.5)},
        )
    if not shown:
        axes.text(1.05, 0.9, "no head moved with it", fontsize=7.5, color=style.MUTED, transform=axes.transAxes)


def _range(walk: Walk) -> tuple[float, float]:
    """Of the y axis: [0, 1], and further where a composition leaves it."""
    values = np.concatenate([walk.base_scores, *walk.scores.values()])
    finite = values[np.isfinite(values)]
    return min(0.0, float(finite.min(initial=0.0))) - 0.02, max(1.0, float(finite.max(initial=1.0))) + 0.02


def _end(walk: Walk, head: str) -> float:
    return walk.base_scores[-1] if head == walk.base else walk.scores[head][-1]


def _colour(walk: Walk, head: str) -> str:
    return style.POSITIVE if walk.psi(head) > 0 else style.NEGATIVE
