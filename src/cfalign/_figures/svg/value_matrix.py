"""A small square matrix of values between −1 and 1, coloured as the alignment matrix is, to stand beside others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cfalign._figures import style
from cfalign._figures.svg.elements import element, figure, text, title

_CELL, _LEFT, _LETTERS, _LONGEST = 15.0, 112.0, 9.5, 106.0


def value_matrix(
    names: Sequence[str], values: Mapping[tuple[str, str], float], *, label: str, hovers: Mapping[tuple[str, str], str]
) -> str:
    """Rows and columns in the order of ``names``; a dash where there is no number.

    ``values``: per (row, column). ``label``: what the figure shows, in words. ``hovers``: a cell in words.
    """
    short = {name: style.fitted(name, _LONGEST, _LETTERS) for name in names}
    top = 10 + max((style.width_of(words, _LETTERS) for words in short.values()), default=0.0)
    parts = []
    for i, name in enumerate(names):
        middle = i * _CELL + _CELL / 2 + 3
        x, y = _LEFT + middle, top - 5
        turn = f"rotate(-90 {x:.1f} {y:.1f})"
        parts.append(text(short[name], x, y, hover=name, font_size=_LETTERS, transform=turn))
        parts.append(text(short[name], _LEFT - 5, top + middle, hover=name, font_size=_LETTERS, text_anchor="end"))
    for i, row in enumerate(names):
        for j, column in enumerate(names):
            pair = (row, column)
            place = (_LEFT + j * _CELL, top + i * _CELL)
            parts.append(_cell(values.get(pair, math.nan), place, hovers.get(pair, ""), outlined=i == j))
    side = len(names) * _CELL
    return figure(_LEFT + side + 6, top + side + 4, label, *parts)


def _cell(value: float, place: tuple[float, float], hover: str, *, outlined: bool) -> str:
    x, y = place
    known = math.isfinite(value)
    square = element(
        "rect",
        x=x,
        y=y,
        width=_CELL - 1,
        height=_CELL - 1,
        fill=style.diverging(value) if known else style.FAINT,
        stroke=style.INK if outlined else None,
    )
    dash = "" if known else text(style.DASH, x + _CELL / 2 - 3, y + _CELL / 2 + 3, fill=style.MUTED, font_size=_LETTERS)
    return element("g", title(hover), square, dash)
