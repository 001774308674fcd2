"""The alignment matrix as a heatmap, its heads ordered so that similar ones stand together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import pdist

from cfalign._figures import style
from cfalign._figures.svg.elements import element, figure, line, text, title
from cfalign._results import Cell

WIDTH = 1060.0
_GAP = 8.0
_LETTERS, _LONGEST = 11.5, 190.0
"""Size of a label, and its greatest length in px."""
_MANY = 20
"""Columns beyond which labels stand upright and small values are not printed."""


def cluster_order(features: Mapping[str, Sequence[float]]) -> list[str]:
    """Labels by average linkage on Euclidean distance with optimal leaf order (as the paper's Fig. 9 is sorted).

    ``features``: per label, equally long; NaN counts as 0, no relation. Fewer than three labels come back as they were.
    """
    labels = list(features)
    if len(labels) < 3:
        return labels
    distances = pdist(np.nan_to_num(np.array(list(features.values()), dtype=np.float64), nan=0.0))
    if not distances.any():
        return labels
    tree = optimal_leaf_ordering(linkage(distances, method="average"), distances)
    return [labels[i] for i in leaves_list(tree)]


def matrix_order(cells: Sequence[Cell], *, apart: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Rows and columns of the heatmap.

    Heads that are both base and downstream share one order, which keeps the diagonal a diagonal; then the heads that
    are only one of the two; ``apart`` (the audited heads) last.
    """
    bases = list(dict.fromkeys(c.base for c in cells))
    downstream = list(dict.fromkeys(c.downstream for c in cells))
    psi = {(c.base, c.downstream): c.psi for c in cells}
    row = {b: [psi.get((b, d), math.nan) for d in downstream] for b in bases}
    column = {d: [psi.get((b, d), math.nan) for b in bases] for d in downstream}
    shared = cluster_order({b: row[b] + column[b] for b in bases if b in column and b not in apart})
    return _rest(shared, bases, row, apart), _rest(shared, downstream, column, apart)


def _rest(
    shared: Sequence[str],
    labels: Sequence[str],
    features: Mapping[str, Sequence[float]],
    apart: Sequence[str],
) -> list[str]:
    single = cluster_order({n: features[n] for n in labels if n not in shared and n not in apart})
    return [*shared, *single, *(n for n in labels if n in apart)]


def matrix_heatmap(
    cells: Sequence[Cell],
    *,
    apart: Sequence[str] = (),
    reasons: Mapping[str, str] | None = None,
    links: Mapping[tuple[str, str], str] | None = None,
) -> str:
    """The matrix of mean relative changes: rows base, columns downstream, everything about a cell on hover.

    ``apart``: heads set off at the end (the audited ones). ``reasons``: per base, why counterfactuals were excluded,
    for the hover of an empty cell. ``links``: per (base, downstream), the address that a cell leads to; such cells have
    a dot in their corner. Values are printed while they stay readable (up to 44 columns), small ones left out beyond
    20.
    """
    rows, columns = matrix_order(cells, apart=apart)
    at = {(c.base, c.downstream): c for c in cells}
    left = max(150.0, 14 + max((style.width_of(_short(n), _LETTERS) for n in rows), default=0.0))
    longest = max((style.width_of(_short(n), _LETTERS) for n in columns), default=0.0)
    angle = 90 if len(columns) > _MANY else 60
    overhang = longest * math.cos(math.radians(angle)) + 6
    gaps = _GAP * (0 < sum(n in apart for n in columns) < len(columns))
    side = max(6.0, min(52.0, (WIDTH - left - overhang - gaps) / max(len(columns), 1)))
    tall = min(side, 30.0)
    top = longest * math.sin(math.radians(angle)) + 14
    x_of = _positions(columns, apart, left, side)
    y_of = _positions(rows, apart, top, tall)
    parts = _labels(x_of, y_of, side=side, tall=tall, angle=angle)
    for base in rows:
        for name in columns:
            box = (x_of[name], y_of[base], side, tall)
            words = _printed(at.get((base, name)), many=len(columns))
            hover = describe_cell(at.get((base, name)), base, name, reasons or {})
            shown = _cell(at.get((base, name)), box, words=words, hover=hover, outlined=base == name)
            parts.append(_linked(shown, (links or {}).get((base, name)), box, hover))
    bottom = max(y_of.values(), default=top) + tall
    width = min(WIDTH, left + len(columns) * side + gaps + overhang)
    return figure(width, bottom + 10, f"Alignment matrix, {len(rows)} bases by {len(columns)} downstream heads", *parts)


def _short(name: str) -> str:
    return style.fitted(name, _LONGEST, _LETTERS)


def _linked(cell: str, address: str | None, box: tuple[float, float, float, float], words: str) -> str:
    """The cell as a link, with a dot in its corner that says so; itself without an address."""
    if address is None:
        return cell
    x, y, side, _ = box
    dot = element("circle", cx=x + side - 5, cy=y + 4, r=2, fill=style.INK, pointer_events="none")
    return element("a", cell, dot, href=address, aria_label=f"{words}\nopens its images")


def _positions(names: Sequence[str], apart: Sequence[str], start: float, side: float) -> dict[str, float]:
    mixed = any(n not in apart for n in names)
    return {n: start + i * side + (_GAP if n in apart and mixed else 0.0) for i, n in enumerate(names)}


def _labels(x_of: Mapping[str, float], y_of: Mapping[str, float], *, side: float, tall: float, angle: int) -> list[str]:
    size = max(7.0, min(11.5, side * 0.56))
    left, top = min(x_of.values(), default=0.0), min(y_of.values(), default=0.0)
    parts = []
    for name, x in x_of.items():
        centre = x + side / 2 + 3
        parts.append(
            text(
                _short(name),
                centre,
                top - 6,
                hover=name,
                font_size=size,
                transform=f"rotate({-angle} {centre:.1f} {top - 6:.1f})",
            )
        )
    for name, y in y_of.items():
        parts.append(
            text(
                _short(name),
                left - 6,
                y + tall / 2 + size * 0.35,
                hover=name,
                text_anchor="end",
                font_size=size,
            )
        )
    parts.append(
        text(
            "base ↓   downstream →",
            left - 6,
            top - 10,
            text_anchor="end",
            font_size=style.SMALL,
            fill=style.MUTED,
        )
    )
    return parts


def _cell(cell: Cell | None, box: tuple[float, float, float, float], *, words: str, hover: str, outlined: bool) -> str:
    x, y, side, tall = box
    fill = style.diverging(cell.psi) if cell is not None and math.isfinite(cell.psi) else style.FAINT
    parts = [
        title(hover),
        element(
            "rect",
            x=x,
            y=y,
            width=side - 1,
            height=tall - 1,
            fill=fill,
            stroke=style.INK if outlined else None,
        ),
    ]
    if words:
        size = max(7.5, min(11.0, side * 0.42))
        strong = cell is not None and (outlined or cell.clear)
        ink = style.ink_on(fill)
        parts.append(
            text(
                words,
                x + side / 2 - 0.5,
                y + tall / 2 + size * 0.35 - 0.5,
                text_anchor="middle",
                font_size=size,
                fill=ink,
                fill_opacity=None if strong else 0.6,
                font_weight=600 if strong and side > 28 else None,
                pointer_events="none",
            )
        )
    return element("g", *parts)


def _printed(cell: Cell | None, *, many: int) -> str:
    if cell is None or not math.isfinite(cell.psi):
        return style.DASH
    if many > 44 or (many > _MANY and abs(cell.psi) < 0.095):
        return ""
    words = style.number(cell.psi)
    return words.replace("0.", ".", 1).removesuffix(".00") if many > _MANY else words


def describe_cell(cell: Cell | None, base: str, name: str, reasons: Mapping[str, str]) -> str:
    """A cell in words, for hover."""
    first = f"base {base} → downstream {name}"
    if cell is None:
        return f"{first}\nnot measured"
    if not math.isfinite(cell.psi):
        why = reasons.get(base, "")
        return f"{first}\nno value: {cell.n} images count, {cell.excluded} excluded" + (f" ({why})" if why else "")
    tested = style.q_value(cell.q) if math.isfinite(cell.q) else "q – (not tested)"
    return (
        f"{first}\n"
        f"ψ = {style.signed(cell.psi)} {style.interval(cell.ci_low, cell.ci_high)}, {tested}\n"
        f"n = {cell.n} images, {cell.excluded} excluded\n"
        f"logit ψ {style.signed(cell.psi_logit)}, ratio of means {style.signed(cell.ratio_of_means)}, "
        f"median {style.signed(cell.median)}"
    )


def colour_bar() -> str:
    """The legend of the heatmap."""
    width, steps = 320.0, 40
    parts = [
        element(
            "rect",
            x=10 + i * (width - 20) / steps,
            y=2,
            width=(width - 20) / steps + 0.5,
            height=12,
            fill=style.diverging(2 * (i + 0.5) / steps - 1),
        )
        for i in range(steps)
    ]
    for value, words in ((-1.0, "≤ −1"), (-0.5, "−0.5"), (0.0, "0"), (0.5, "+0.5"), (1.0, "≥ +1")):
        x = 10 + (value + 1) / 2 * (width - 20)
        parts.append(line(x, 14, x, 18, stroke=style.MUTED))
        anchor = "start" if value == -1 else "end" if value == 1 else "middle"
        parts.append(
            text(
                words,
                x - (10 if value == -1 else 0) + (10 if value == 1 else 0),
                30,
                text_anchor=anchor,
                font_size=style.SMALL,
                fill=style.MUTED,
            )
        )
    return figure(width, 34, "Colour scale of relative change, from −1 to +1", *parts)
