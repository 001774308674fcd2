"""What became of every counterfactual, and how heads answer when nothing meaningful was done to the image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cfalign._figures import style
from cfalign._figures.svg.elements import element, figure, line, text, title


@dataclass(frozen=True)
class Control:
    """How far one head moves for reasons that say nothing about features. Mean absolute changes of its score."""

    head: str
    drift: float
    """Score of x0 against the image: what the autoencoder alone does; 0 where walks start at the image itself."""
    random: float
    """After a random latent step as long as the counterfactual's; NaN where it was not measured."""
    random_high: float
    """95th percentile of the same."""
    response: float
    """After the counterfactuals of the *other* heads."""
    n: int
    """Counterfactuals that ``random`` and ``response`` rest on."""


def outcome_bar(outcomes: Mapping[str, int], *, width: float = 220.0) -> str:
    """Outcomes of one base's eligible images as a stacked bar; images that were not eligible are not part of it."""
    made = {k: n for k, n in outcomes.items() if k != "not_eligible" and n > 0}
    total = sum(made.values())
    parts = [element("rect", x=0, y=2, width=width, height=12, fill=style.FAINT)]
    x = 0.0
    for name in sorted(made, key=_rank):
        share = made[name] / total * width
        parts.append(
            element(
                "rect",
                title(f"{name}: {made[name]} of {total}"),
                x=x,
                y=2,
                width=share,
                height=12,
                fill=style.OUTCOME_COLOURS.get(name, style.MUTED),
                stroke=style.PAPER,
                stroke_width=0.5,
            )
        )
        x += share
    words = ", ".join(f"{name} {n}" for name, n in made.items()) or "no counterfactual"
    return figure(width, 16, words, *parts)


def _rank(outcome: str) -> tuple[int, str]:
    order = list(style.OUTCOME_COLOURS)
    return (order.index(outcome) if outcome in order else len(order), outcome)


_ROW, _LABEL, _PLOT, _WIDTH = 20.0, 220.0, (235.0, 735.0), 1060.0
_COLUMNS = (("drift", 800.0), ("random step", 880.0), ("its 95 %", 940.0), ("counterfactuals", 1045.0))


def controls_plot(controls: Sequence[Control], *, drift: bool = True) -> str:
    """Per head: drift (bar), random step (hollow dot, line to its 95th percentile), counterfactuals (filled dot).

    Without ``drift`` there are no bars, nor a column for them.
    """
    top, height = 34.0, 34.0 + _ROW * len(controls) + 40.0
    values = [v for c in controls for v, *_ in _numbers(c, drift=drift) if math.isfinite(v)]
    highest = max([0.1, *values]) * 1.03
    parts = [
        text(name, x, 20, text_anchor="end", font_size=style.SMALL, fill=style.MUTED)
        for name, x in (_COLUMNS if drift else _COLUMNS[1:])
    ]
    parts.append(line(0, 28, _WIDTH, 28, stroke=style.RULE))
    bottom = height - 40.0
    for tick in style.ticks(0.0, highest):
        x = _x(tick, highest)
        parts.append(line(x, top, x, bottom + 4, stroke=style.INK if tick == 0 else style.FAINT))
        parts.append(text(f"{tick:g}", x, bottom + 18, text_anchor="middle", font_size=style.SMALL, fill=style.MUTED))
    parts.append(
        text(
            "mean absolute change of the score",
            sum(_PLOT) / 2,
            height - 6,
            text_anchor="middle",
            font_size=style.SMALL,
            fill=style.MUTED,
        )
    )
    parts += [_control_row(c, top + _ROW * (i + 0.5), highest, drift=drift) for i, c in enumerate(controls)]
    kinds = "Drift and random-step controls" if drift else "Random-step controls"
    return figure(_WIDTH, height, f"{kinds} of {len(controls)} heads", *parts)


def _numbers(control: Control, *, drift: bool) -> list[tuple[float, str, float]]:
    """The numbers of a row, each with the name and the right end of its column."""
    values = (control.drift, control.random, control.random_high, control.response)
    rows = [(value, name, x) for value, (name, x) in zip(values, _COLUMNS, strict=True)]
    return rows if drift else rows[1:]


def _x(value: float, highest: float) -> float:
    return _PLOT[0] + value / highest * (_PLOT[1] - _PLOT[0])


def _control_row(control: Control, y: float, highest: float, *, drift: bool) -> str:
    drifted = f"drift {style.number(control.drift, digits=3)}, " if drift else ""
    words = (
        f"{control.head}\n{drifted}random step "
        f"{style.number(control.random, digits=3)} (95 % below {style.number(control.random_high, digits=3)}), "
        f"counterfactuals of other heads {style.number(control.response, digits=3)}, n = {control.n}"
    )
    parts = [title(words), text(style.fitted(control.head, _LABEL - 4), _LABEL, y + 4, text_anchor="end")]
    if drift and math.isfinite(control.drift):
        parts.append(
            element(
                "rect",
                x=_PLOT[0],
                y=y - 4,
                height=8,
                fill=style.RULE,
                width=_x(control.drift, highest) - _PLOT[0],
            )
        )
    if math.isfinite(control.random):
        x, end = _x(control.random, highest), _x(control.random_high, highest)
        parts.append(line(x, y, end, y, stroke=style.MUTED, stroke_width=1.25))
        parts.append(element("circle", cx=x, cy=y, r=4, fill=style.PAPER, stroke=style.MUTED, stroke_width=1.5))
    if math.isfinite(control.response):
        parts.append(element("circle", cx=_x(control.response, highest), cy=y, r=4.5, fill=style.NEGATIVE))
    for value, name, x in _numbers(control, drift=drift):
        hover = "" if math.isfinite(value) else f"{name}: not measured in this run"
        parts.append(text(style.number(value, digits=3), x, y + 4, hover=hover, text_anchor="end"))
    return element("g", *parts)
