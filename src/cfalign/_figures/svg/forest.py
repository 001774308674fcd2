"""Effects of attributes on one audited head: dots with intervals, as in a forest plot, row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cfalign._figures import style
from cfalign._figures.svg.elements import element, figure, line, text, title
from cfalign._results import Effect

WIDTH, HEIGHT = 300.0, 22.0
"""Of the mark of one effect, in px."""
_EDGES = (10.0, 290.0)
_AXIS = 20.0


@dataclass(frozen=True)
class Scale:
    """The horizontal axis that several plots share, so that their dots can be compared."""

    low: float
    high: float

    def at(self, value: float, left: float, right: float) -> float:
        """Position of a value between ``left`` and ``right`` px, held inside."""
        share = (value - self.low) / (self.high - self.low)
        return left + max(0.0, min(1.0, share)) * (right - left)


def by_size(effects: Sequence[Effect]) -> list[Effect]:
    """The own concept first, then by descending \\|effect\\|, those without an estimate last."""
    return sorted(
        effects,
        key=lambda e: (not e.own, -abs(e.effect) if math.isfinite(e.effect) else math.inf, e.attribute),
    )


def common_scale(effects: Sequence[Effect]) -> Scale:
    """Covers every estimate and zero; intervals up to ±1.25, wider ones are drawn with an arrow head."""
    dots = [e.effect for e in effects if math.isfinite(e.effect)]
    ends = [max(-1.25, min(1.25, v)) for e in effects for v in (e.ci_low, e.ci_high) if math.isfinite(v)]
    low, high = min([*dots, *ends, -0.1]), max([*dots, *ends, 0.1])
    margin = 0.04 * (high - low)
    return Scale(low - margin, high + margin)


def effect_mark(effect: Effect, *, scale: Scale) -> str:
    """The dot of one effect with its interval, for a row of a table.

    Filled: significant (``Effect.clear``). Hollow: not. Diamond: the head's own concept.
    """
    ruled = element("path", d=_rules(scale, HEIGHT), stroke=style.RULE, fill="none")
    zero = scale.at(0.0, *_EDGES)
    axis = line(zero, 0, zero, HEIGHT, stroke=style.MUTED)
    return figure(WIDTH, HEIGHT, describe(effect), ruled, axis, mark(effect, scale, HEIGHT / 2, *_EDGES))


def effect_axis(*, scale: Scale) -> str:
    """The numbers of the axis, for the head of that column."""
    numbers = [
        text(
            "0" if abs(tick) < 1e-9 else style.signed(tick, digits=1),
            max(12.0, min(WIDTH - 12.0, scale.at(tick, *_EDGES))),
            13,
            text_anchor="middle",
            font_size=style.SMALL,
            fill=style.MUTED,
        )
        for tick in style.ticks(scale.low, scale.high)
    ]
    words = f"Change of the audited score, from {style.signed(scale.low)} to {style.signed(scale.high)}"
    return figure(WIDTH, _AXIS, words, *numbers)


def _rules(scale: Scale, height: float) -> str:
    """A path of upright lines at the numbers of the axis."""
    return "".join(f"M{scale.at(tick, *_EDGES):.0f} 0V{height:g}" for tick in style.ticks(scale.low, scale.high))


def why_missing(effect: Effect, column: str) -> str:
    """The reason for a dash, as far as the table tells it."""
    if effect.n == 0:
        return f"No counterfactual of {effect.attribute} counts, so nothing can be said."
    if column == "outgoing":
        return "Not measured: it needs counterfactuals of the audited head, which a black box or a bank audit has not."
    if column == "q" and effect.own:
        return "The head's own concept is not tested."
    return "The estimate could not be made from these images."


def describe(effect: Effect) -> str:
    """One effect in words, for hover."""
    verdict = "significant" if effect.clear else "not significant"
    if effect.own:
        verdict = "the head's own concept"
    return (
        f"{effect.attribute} → {effect.audited}\n"
        f"effect {style.signed(effect.effect)} {style.interval(effect.ci_low, effect.ci_high)}, "
        f"n = {effect.n}, {style.q_value(effect.q)} ({verdict})\n"
        f"incoming {style.signed(effect.incoming)}, outgoing {style.signed(effect.outgoing)}"
    )


def mark(effect: Effect, scale: Scale, y: float, left: float, right: float) -> str:
    """The dot and its interval; nothing but a dash at zero where there is no estimate."""
    if not math.isfinite(effect.effect):
        return text(
            style.DASH,
            scale.at(0.0, left, right),
            y + 4,
            text_anchor="middle",
            fill=style.MUTED,
            hover=why_missing(effect, "effect"),
        )
    strong, own = effect.clear, effect.own
    colour = style.OWN if own else style.POSITIVE if effect.effect > 0 else style.NEGATIVE
    parts = []
    if math.isfinite(effect.ci_low) and math.isfinite(effect.ci_high):
        parts.append(_interval(effect, scale, y, left, right, colour if strong else style.MUTED))
    x = scale.at(effect.effect, left, right)
    fill = colour if strong else style.PAPER
    stroke = colour if strong else style.MUTED
    if own:
        points = f"{x - 6:.1f},{y:.1f} {x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f}"
        parts.append(element("polygon", points=points, fill=fill, stroke=stroke, stroke_width=1.5))
    else:
        parts.append(element("circle", cx=x, cy=y, r=4.5, fill=fill, stroke=stroke, stroke_width=1.5))
    return "".join(parts)


def _interval(effect: Effect, scale: Scale, y: float, left: float, right: float, colour: str) -> str:
    parts = [
        line(
            scale.at(effect.ci_low, left, right),
            y,
            scale.at(effect.ci_high, left, right),
            y,
            stroke=colour,
            stroke_width=1.75,
        )
    ]
    if effect.ci_low < scale.low:
        parts.append(element("polygon", points=f"{left - 5},{y} {left + 2},{y - 4} {left + 2},{y + 4}", fill=colour))
    if effect.ci_high > scale.high:
        parts.append(element("polygon", points=f"{right + 5},{y} {right - 2},{y - 4} {right - 2},{y + 4}", fill=colour))
    return "".join(parts)


def forest_thumbnail(effects: Sequence[Effect], *, scale: Scale, most: int = 5) -> str:
    """The largest effects of one head in the width of a card, own concept first; for an overview of many heads.

    What lies outside ``scale`` (as the own concept will, on a scale made for the others) is drawn at its edge.
    """
    shown = by_size(effects)[: most + 1]
    left, right, width, row = 122.0, 206.0, 252.0, 17.0
    height = row * len(shown) + 6
    zero = scale.at(0.0, left, right)
    parts = [line(zero, 0, zero, height, stroke=style.RULE)]
    for i, effect in enumerate(shown):
        y = row * (i + 0.5) + 2
        strong = effect.clear
        name = style.fitted(effect.attribute, left - 10, style.SMALL)
        parts.append(
            element(
                "g",
                title(describe(effect)),
                text(
                    name,
                    left - 8,
                    y + 3.5,
                    text_anchor="end",
                    font_size=style.SMALL,
                    fill=style.INK if strong else style.MUTED,
                ),
                element("g", mark(effect, scale, y, left, right)),
                text(
                    style.signed(effect.effect),
                    width,
                    y + 3.5,
                    text_anchor="end",
                    font_size=style.SMALL,
                    fill=style.INK if strong else style.MUTED,
                ),
            )
        )
    audited = effects[0].audited if effects else ""
    return figure(width, height, f"Largest effects on {audited}", *parts)
