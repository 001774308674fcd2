"""Images of one attribute side by side: as they came, at the requested drop, and where it counts as switched off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from cfalign._figures import style
from cfalign._figures.plots.pixels import Pixels, new_figure, picture

_SIDE, _TEXT, _GAP, _TOP, _BELOW = 1.25, 1.35, 0.06, 0.4, 0.2


def switched_people(
    rows: Mapping[str, Sequence[Pixels]], notes: Mapping[str, Sequence[str]], *, heading: str
) -> Figure:
    """``rows``: images [h, w, c] in [0, 1] by what they are, one column per image. ``notes``: a word below each."""
    columns = max((len(images) for images in rows.values()), default=1)
    width = _TEXT + columns * (_SIDE + _GAP)
    height = _TOP + len(rows) * (_SIDE + _BELOW)
    figure = new_figure(width, height)
    figure.text(0.1 / width, 1 - 0.2 / height, heading, fontsize=9, weight="bold", color=style.INK, va="center")
    for number, (name, images) in enumerate(rows.items()):
        bottom = height - _TOP - (number + 1) * (_SIDE + _BELOW) + _BELOW
        figure.text(0.1 / width, (bottom + _SIDE / 2) / height, name, fontsize=8, color=style.INK, va="center")
        for column, image in enumerate(images):
            left = _TEXT + column * (_SIDE + _GAP)
            axes = figure.add_axes((left / width, bottom / height, _SIDE / width, _SIDE / height))
            picture(axes, image)
            axes.set_xlabel(notes[name][column], fontsize=6.5, color=style.MUTED, labelpad=1.5)
    return figure
