"""Just enough SVG: elements as strings, everything that came from outside escaped.

The result is meant to stand inside an HTML page (which needs no ``xmlns``). A ``title`` child is what a reader sees on
hover and what a screen reader speaks.
"""

from __future__ import annotations

from html import escape

from cfalign._figures.style import FONT, INK, SIZE

Attribute = str | float | int | None


def element(tag: str, *children: str, **attributes: Attribute) -> str:
    """One element. ``children`` are SVG already; attribute values are escaped; ``font_size`` is ``font-size``, a
    trailing underscore is dropped, ``None`` leaves the attribute out."""
    parts = [tag]
    for name, value in attributes.items():
        if value is not None:
            parts.append(f'{name.rstrip("_").replace("_", "-")}="{_value(value)}"')
    head = " ".join(parts)
    return f"<{head}>{''.join(children)}</{tag}>" if children else f"<{head}/>"


def _value(value: str | float | int) -> str:
    if isinstance(value, str):
        return escape(value, quote=True)
    return f"{round(float(value), 2):g}"


def title(words: str) -> str:
    """The hover text of the element that it stands in."""
    return f"<title>{escape(words)}</title>"


def text(words: str, x: float, y: float, *, hover: str = "", **attributes: Attribute) -> str:
    """Text with its baseline at (x, y), optionally with a hover text."""
    inner = escape(words) if not hover else title(hover) + escape(words)
    return element("text", inner, x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, *children: str, **attributes: Attribute) -> str:
    """A straight line."""
    return element("line", *children, x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def figure(width: float, height: float, label: str, *children: str) -> str:
    """The outermost element: scales down with its column, never up. ``label`` says in words what the figure shows."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        style="max-width:100%;height:auto;display:block",
        role="img",
        aria_label=label,
        font_family=FONT,
        font_size=SIZE,
        fill=INK,
    )
