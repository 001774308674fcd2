"""Effects of attributes on one audited head: dots with intervals, as in a forest plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cfalign._figures import style
from cfalign._figures.svg.elements import element, figure, line, text, title
from cfalign._results import Effect

_ROW = 22.0
_HEAD = 38.0
_FOOT = 40.0
_LABEL = 190.0
_PLOT = (205.0, 640.0)
_COLUMNS = (
    ("effect", 690.0, "Estimated change of the audited score when the attribute goes from absent to present"),
    ("95 % interval", 798.0, "Holds what the attributes leave unexplained"),
    ("incoming", 868.0, "Change of the audited head over change of the attribute, raw, before unmixing"),
    ("outgoing", 938.0, "Counterfactuals of the audited head: mean relative change of the attribute's head"),
    ("n", 986.0, "Counterfactuals of the attribute that the row rests on"),
    ("q", 1050.0, "False discovery rate (Benjamini-Hochberg)"),
)
WIDTH = 1060.0


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


def forest_plot(effects: Sequence[Effect], *, scale: Scale, captions: bool = True) -> str:
    """One row per effect in the order given, with its numbers beside it.

    Filled: significant (``Effect.clear``). Hollow: not. Diamond: the head's own concept. ``captions=False`` leaves
    the column heads out, for the continuation of a plot.
    """
    top = _HEAD if captions else 8.0
    height = top + _ROW * len(effects) + _FOOT
    parts = _axis(scale, top, top + _ROW * len(effects))
    if captions:
        parts += _captions()
    for i, effect in enumerate(effects):
        parts.append(_row(effect, scale, top + _ROW * (i + 0.5), shaded=i % 2 == 1))
    parts.append(_explain_axis(height))
    audited = effects[0].audited if effects else ""
    return figure(WIDTH, height, f"Effects of {len(effects)} attributes on {audited}", *parts)


def _captions() -> list[str]:
    heads = [
        text(name, x, 22, hover=hover, text_anchor="end", font_size=style.SMALL, fill=style.MUTED)
        for name, x, hover in _COLUMNS
    ]
    first = text("attribute", _LABEL, 22, text_anchor="end", font_size=style.SMALL, fill=style.MUTED)
    return [first, *heads, line(0, 30, WIDTH, 30, stroke=style.RULE)]


def _axis(scale: Scale, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in style.ticks(scale.low, scale.high, about=8):
        x = scale.at(tick, *_PLOT)
        heavy = abs(tick) < 1e-9
        parts.append(line(x, top, x, bottom + 4, stroke=style.INK if heavy else style.FAINT, stroke_width=1))
        mark = text(
            style.signed(tick, digits=1) if not heavy else "0",
            x,
            bottom + 18,
            text_anchor="middle",
            font_size=style.SMALL,
            fill=style.MUTED,
        )
        parts.append(mark)
    return parts


def _explain_axis(height: float) -> str:
    words = "change of the audited probability when the attribute is switched on"
    return text(words, sum(_PLOT) / 2, height - 6, text_anchor="middle", font_size=style.SMALL, fill=style.MUTED)


def _row(effect: Effect, scale: Scale, y: float, *, shaded: bool) -> str:
    strong = effect.clear
    parts = [
        element(
            "rect",
            x=0,
            y=y - _ROW / 2,
            width=WIDTH,
            height=_ROW,
            fill=style.INK,
            fill_opacity=0.025 if shaded else 0,
        )
    ]
    label = style.clip(effect.attribute, 22 if effect.own else 28)
    own = " (own)" if effect.own else ""
    parts.append(text(label + own, _LABEL, y + 4, text_anchor="end", font_weight=600 if strong else None))
    parts.append(mark(effect, scale, y, *_PLOT))
    values = (
        style.signed(effect.effect),
        style.interval(effect.ci_low, effect.ci_high),
        style.signed(effect.incoming),
        style.signed(effect.outgoing),
        str(effect.n),
        style.bare(effect.q),
    )
    for i, (value, (name, x, _)) in enumerate(zip(values, _COLUMNS, strict=True)):
        weight = 600 if strong and i == 0 else None
        hover = why_missing(effect, name) if value == style.DASH else ""
        parts.append(
            text(
                value,
                x,
                y + 4,
                hover=hover,
                text_anchor="end",
                font_weight=weight,
                fill=style.INK if strong or value == style.DASH else style.MUTED,
            )
        )
    return element("g", title(describe(effect)), *parts)


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
        name = style.clip(effect.attribute, 20)
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
