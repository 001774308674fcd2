"""The contact sheet: original, x0, counterfactual and change, one row per (image, base)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from cfalign._figures import style
from cfalign._figures.plots.pixels import Pixels, blank, change, largest, new_figure, picture, signed_map
from cfalign._results import StartsAt

_SIDE, _TEXT, _GAP, _TOP = 1.25, 2.6, 0.08, 0.72
_CHANGE = "change (red brighter)"


@dataclass(frozen=True)
class SheetRow:
    """One (image, base) pair of a sheet; images [h, w, c] in [0, 1], None where there is none."""

    image_id: str
    base: str
    caption: str
    original: Pixels | None = None
    reconstruction: Pixels | None = None
    """None too where the residual of the image stays: x0 is the original."""
    counterfactual: Pixels | None = None

    @property
    def complete(self) -> bool:
        """Whether there is a counterfactual to show."""
        return self.counterfactual is not None


def contact_sheet(rows: Sequence[SheetRow], *, start: StartsAt, heading: str = "") -> Figure:
    """Rows in the given order, with captions on the left.

    ``start``: what x0 is. A reconstruction has a column of its own. Change is counterfactual − x0; red is brighter,
    blue darker. Every row has its own colour scale, whose limit is written below.
    """
    row_height, columns = _SIDE + 0.2, (*start.pictures, _CHANGE)
    width, height = _TEXT + len(columns) * (_SIDE + _GAP) + 0.15, _TOP + max(len(rows), 1) * row_height
    figure = new_figure(width, height)
    figure.text(0.15 / width, 1 - 0.2 / height, heading, fontsize=9, weight="bold", color=style.INK, va="center")
    for column, name in enumerate(columns):
        x = (_TEXT + column * (_SIDE + _GAP) + _SIDE / 2) / width
        figure.text(x, 1 - 0.56 / height, name, fontsize=8, color=style.MUTED, ha="center", va="center")
    for number, row in enumerate(rows):
        bottom = height - _TOP - (number + 1) * row_height + 0.2
        _caption(figure, row, (bottom + _SIDE - 0.02) / height)
        _pictures(figure, row, start, bottom)
    return figure


def _caption(figure: Figure, row: SheetRow, y: float) -> None:
    """``y``: upper end of the caption, as a share of the figure."""
    width, height = figure.get_size_inches()
    first, *rest = row.caption.split("\n")
    figure.text(0.15 / width, y, style.clip(first, 34), fontsize=8, weight="bold", color=style.INK, va="top")
    words = "\n".join(style.clip(line, 40) for line in rest)
    figure.text(0.15 / width, y - 0.19 / height, words, fontsize=7.5, color=style.INK, va="top", linespacing=1.4)


def _pictures(figure: Figure, row: SheetRow, start: StartsAt, bottom: float) -> None:
    """``bottom``: lower end of the pictures in inches."""
    width, height = figure.get_size_inches()
    images: dict[str, Pixels | None] = {name: getattr(row, name) for name in start.pictures}
    lefts = (_TEXT + column * (_SIDE + _GAP) for column in range(len(images) + 1))
    *frames, last = [figure.add_axes((x / width, bottom / height, _SIDE / width, _SIDE / height)) for x in lefts]
    for axes, image in zip(frames, images.values(), strict=True):
        if image is None:
            blank(axes, "not in the run")
        else:
            picture(axes, image)
    before, after = images[start.picture], row.counterfactual
    if before is None or after is None:
        blank(last, "not in the run")
        return
    moved = change(before, after)
    signed_map(last, moved)
    last.set_xlabel(f"±{largest(moved):.2f}", fontsize=6.5, color=style.MUTED, labelpad=1.5)
