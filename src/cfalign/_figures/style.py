"""The one look of everything that cfalign draws: colours, type, and how a number is written.

Safe for colour-blind readers (blue against red, never red against green; shape and fill repeat what colour says), dark
ink on white so that it survives a black-and-white printer.
"""

from __future__ import annotations

import math
import unicodedata
from itertools import pairwise

FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
SIZE = 12.0
"""Size of ordinary text in a figure, px."""
SMALL = 10.5

INK = "#1b1f24"
MUTED = "#5d6671"
RULE = "#d5dae0"
FAINT = "#eef1f4"
PAPER = "#ffffff"
POSITIVE = "#b2182b"
NEGATIVE = "#2166ac"
OWN = "#5d6671"

OUTCOME_COLOURS = {
    "reached": "#2166ac",
    "floor": "#92c5de",
    "turned": "#f4a582",
    "image_limit": "#d6604d",
    "lambda_limit": "#b2182b",
    "flat": "#8c6bb1",
    "not_finite": "#1b1f24",
}
"""Blue: the search met its aim; warm: it stopped early."""

DASH = "–"
"""What stands where there is no number. Never a zero."""

_DIVERGING = (
    (-1.0, (8, 64, 129)),
    (-0.6, (67, 147, 195)),
    (-0.2, (209, 229, 240)),
    (0.0, (255, 255, 255)),
    (0.2, (253, 219, 199)),
    (0.6, (214, 96, 77)),
    (1.0, (140, 12, 37)),
)


def diverging(value: float, *, limit: float = 1.0) -> str:
    """Colour of a signed value: blue below zero, white at zero, red above; beyond ±``limit`` the end colour."""
    position = max(-1.0, min(1.0, value / limit)) if math.isfinite(value) else math.nan
    for (left, low), (right, high) in pairwise(_DIVERGING):
        if position <= right:
            share = (position - left) / (right - left)
            return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(low, high, strict=True))
    raise ValueError(f"No colour for {value!r}: a finite number was expected.")


def ink_on(fill: str) -> str:
    """Dark or white, whichever reads better on ``fill`` (``#rrggbb``)."""
    red, green, blue = (int(fill[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else PAPER


def number(value: float, *, digits: int = 2) -> str:
    """``0.39``, ``−0.12``, or a dash where there is none."""
    if not math.isfinite(value):
        return DASH
    text = f"{value:.{digits}f}"
    return "−" + text[1:] if text.startswith("-") and float(text) != 0.0 else text.removeprefix("-")


def signed(value: float, *, digits: int = 2) -> str:
    """As ``number`` with a plus sign where positive: ``+0.39``."""
    text = number(value, digits=digits)
    return "+" + text if math.isfinite(value) and float(f"{value:.{digits}f}") > 0 else text


def interval(low: float, high: float) -> str:
    """``[0.34, 0.44]``, or a dash."""
    return f"[{number(low)}, {number(high)}]" if math.isfinite(low) and math.isfinite(high) else DASH


def q_value(q: float, *, name: str = "q") -> str:
    """``q < 0.001``, ``q = 0.012``, ``q = 0.3``, or ``q –``."""
    if not math.isfinite(q):
        return f"{name} {DASH}"
    if q < 0.001:
        return f"{name} < 0.001"
    return f"{name} = {q:.3f}" if q < 0.1 else f"{name} = {q:.2f}"


def bare(q: float) -> str:
    """A q-value for a column that says q already: ``< 0.001``, ``0.012``, or a dash."""
    return q_value(q, name="").strip().removeprefix("= ")


def clip(name: str, characters: int) -> str:
    """A name cut in its middle to at most ``characters``, its two ends kept: they tell heads apart."""
    if len(name) <= characters:
        return name
    tail = (characters - 1) // 2
    return name[: characters - 1 - tail] + "…" + name[len(name) - tail :]


def fitted(name: str, width: float, size: float = SIZE) -> str:
    """A name cut in its middle so that it takes at most ``width`` px at a size of type."""
    shown = name
    while width_of(shown, size) > width and len(shown) > 3:
        shown = clip(name, len(shown) - 1)
    return shown


def width_of(text: str, size: float = SIZE) -> float:
    """Width of text in px; there is no font to measure with, so that of a wide one."""
    return size * sum(map(_em, text))


def _em(character: str) -> float:
    """Width of a character in a wide font, by the size of type."""
    if unicodedata.category(character) in ("Mn", "Me", "Cc", "Cf"):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF" or ord(character) >= 0x1F000:
        return 1.4
    if character in "mwMW@%":
        return 1.0
    if character in "ijl.,:;'| ()[]":
        return 0.4
    return 0.75 if character.isupper() else 0.64


def ticks(low: float, high: float, *, about: int = 6) -> list[float]:
    """Round numbers that cover [low, high], zero among them where it is inside."""
    raw = max(high - low, 1e-9) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]
