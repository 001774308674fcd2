"""HTML for the cells of notebooks, as plain strings: cards, tables, numbers in colour, small pictures.

Everything is styled in place, because Jupyter, VS Code and Colab keep little else, and in the colours of the page: text
inherits its colour, and backgrounds let the page through, so that light and dark themes read alike. Names are text, in
whatever direction they are written.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_RULE = "1px solid rgba(127,127,127,.35)"
_ABOVE, _BELOW = "178,24,43", "33,102,172"
"""Red above zero and blue below, as in every figure."""
_STRONGEST = 0.6
_LONGEST = 60
_SIDE = 96
"""Pixels of a picture's side on the page."""
_WALKS = 6
"""Walks that are shown of many."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Cell = str | int | float | Html


def card(title: str, *parts: str) -> str:
    """A block with a title.

    >>> card("Run <1>", facts({"images": 3}))[-62:]
    '<b>Run &lt;1&gt;</b><div><bdi>images</bdi>: 3</div></div>'
    """
    inside = "".join(part for part in parts if part)
    return f'<div style="font-family:system-ui,sans-serif;margin:.3em 0"><b>{escape(title)}</b>{inside}</div>'


def facts(values: Mapping[str, Cell]) -> str:
    """Names and values in one line."""
    return f"<div>{' · '.join(f'{named(name)}: {_content(value)}' for name, value in values.items())}</div>"


def line(text: str) -> str:
    """A line of small text."""
    return f'<div style="opacity:.75;font-size:.9em">{escape(text)}</div>'


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table; texts stand left, numbers right, at two digits, and one that is undefined is a dash."""
    place = f"text-align:left;padding:.1em .5em;border-bottom:{_RULE}"
    head = "".join(f'<th style="{place}">{escape(column)}</th>' for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    style = "border-collapse:collapse;background:transparent;color:inherit;font-size:.9em;margin:.3em 0"
    inside = f'<table style="{style}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div style="overflow-x:auto">{inside}</div>'


def heat(value: float, *, limit: float = 1.0) -> Html:
    """A number on a background that says its sign and size; at ``limit`` it is strongest."""
    if not math.isfinite(value):
        return Html(number(value))
    share = min(1.0, abs(value) / limit)
    colour = f"rgba({_ABOVE if value > 0 else _BELOW},{_STRONGEST * share:.2f})"
    return Html(f'<span style="background:{colour};padding:.1em .3em;display:block">{number(value)}</span>')


def number(value: float) -> str:
    """Two digits with a sign, a dash where it is undefined.

    >>> number(0.394), number(-0.1), number(float("nan")), number(-0.001)
    ('+0.39', '−0.10', '–', '0.00')
    """
    if not math.isfinite(value):
        return "–"
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def named(name: str) -> Html:
    """A name: cut in its middle where it is long, whole when it is pointed at."""
    if len(name) <= _LONGEST:
        return Html(f"<bdi>{escape(name)}</bdi>")
    half = _LONGEST // 2
    short = f"{escape(name[:half])}…{escape(name[-half:])}"
    return Html(f'<bdi title="{escape(name)}">{short}</bdi>')


class Walked(Protocol):
    """Counterfactuals, one per image."""

    @property
    def images(self) -> Tensor:
        """x_λ [n, c, h, w]."""

    @property
    def reconstructions(self) -> Tensor:
        """x0 [n, c, h, w]."""

    @property
    def outcomes(self) -> tuple[Any, ...]:
        """Why each search stopped."""

    @property
    def base_before(self) -> NDArray[np.float64]:
        """Base score at x0."""

    @property
    def base_after(self) -> NDArray[np.float64]:
        """Base score at x_λ."""

    @property
    def lambdas(self) -> NDArray[np.float64]:
        """λ, NaN where there is none."""


class ShownWalks:
    """Counterfactuals that notebooks show: x0, x_λ and how the search ended, of a few; those that walked come first."""

    def _repr_html_(self: Walked) -> str:
        count = len(self.outcomes)
        rows: list[list[Cell]] = [
            [
                picture(self.reconstructions[i]),
                picture(self.images[i]),
                str(self.outcomes[i]),
                Html(f"{self.base_before[i]:.2f} → {self.base_after[i]:.2f}"),
                Html(f"{self.lambdas[i]:.3g}" if math.isfinite(self.lambdas[i]) else number(math.nan)),
            ]
            for i in sorted(range(count), key=lambda i: not self.outcomes[i].walked)[:_WALKS]
        ]
        rest = line(f"… {count} in all.") if count > _WALKS else ""
        return card(repr(self), table(("x0", "counterfactual", "outcome", "base score", "λ"), rows), rest)


def picture(image: Tensor) -> Html:
    """An image [c, h, w] in [0, 1], at most about twice as fine as it is shown."""
    step = max(1, min(image.shape[-2:]) // (2 * _SIDE))
    shown = image.detach()[:, ::step, ::step].float().clamp(0, 1).mul(255).round().cpu().expand(3, -1, -1)
    return png_picture(_png(np.ascontiguousarray(shown.permute(1, 2, 0).numpy().astype(np.uint8))))


def png_picture(png: bytes) -> Html:
    """A picture from the bytes of a PNG file."""
    data = base64.b64encode(png).decode("ascii")
    style = f"height:{_SIDE}px;image-rendering:pixelated;border:{_RULE}"
    return Html(f'<img alt="" style="{style}" src="data:image/png;base64,{data}">')


def _png(pixels: NDArray[np.uint8]) -> bytes:
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _cell(value: Cell) -> str:
    align = "left" if isinstance(value, str) and not isinstance(value, Html) else "right"
    return f'<td style="text-align:{align};padding:.1em .5em;border-bottom:{_RULE}">{_content(value)}</td>'


def _content(value: Cell) -> str:
    if isinstance(value, Html):
        return value
    if isinstance(value, str):
        return named(value)
    return str(value) if isinstance(value, int) else number(value)
