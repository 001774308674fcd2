"""Where in one image the changes of scores lie, as a figure: the image, its regions, and their shares."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy.ndimage import distance_transform_edt

from cfalign._explanation.drawing import heading, pixels
from cfalign._explanation.explained import ExplainedBase, ExplainedImage, ExplainedRegions
from cfalign._figures import style
from cfalign._figures.plots.pixels import Pixels, blank, new_figure, picture

_PANELS, _SIDE, _GAP, _ROW, _TOP = 5, 2.0, 0.17, 2.8, 0.58
TOLD = 0.05
"""Least share that is written into its region."""
MOST = 16
"""Regions beyond which only the strongest are written into the image."""
_STRONGEST = 6


def regions_figure(explanation: ExplainedImage) -> Figure:
    """A row per base: the base itself, then the heads that moved most; red is where a change lies, blue what works
    against it.
    """
    bases = [base for base in explanation.bases if base.regions is not None]
    width, height = 0.13 + _PANELS * (_SIDE + _GAP), _TOP + _ROW * max(1, len(bases))
    figure = new_figure(width, height)
    figure.text(0.012, 1 - 0.16 / height, explanation.name, fontsize=10, weight="bold", color=style.INK, va="center")
    words = (
        "Share of the change of each score. Upper number: what is there when nothing but the region changes; "
        "lower: what is lost when everything but the region changes. Red: with the change; blue: against it."
    )
    figure.text(0.012, 1 - 0.40 / height, words, fontsize=7.5, color=style.MUTED, va="center")
    for number, base in enumerate(bases):
        bottom = height - _TOP - (number + 1) * _ROW
        row = (bottom + _ROW - 0.2) / height
        figure.text(0.012, row, heading(base), fontsize=9, color=style.INK, va="center")
        shown = base.moved(explanation.heads)[:_PANELS]
        for at, head in enumerate(shown):
            place = (0.13 + at * (_SIDE + _GAP), bottom + 0.25, _SIDE, _SIDE)
            axes = figure.add_axes((place[0] / width, place[1] / height, place[2] / width, place[3] / height))
            _panel(axes, explanation, base, head)
        if not shown:
            blank(figure.add_axes((0.012, bottom / height + 0.1, 0.3, 0.5)), f"{base.base}: no score moved by 0.05")
    return figure


def _panel(axes: Axes, explanation: ExplainedImage, base: ExplainedBase, head: int) -> None:
    assert base.regions is not None
    name, split = explanation.heads[head], base.regions
    before, after = (style.number(base.scores[at, head]) for at in (0, -1))
    own = " (base)" if name == base.base else ""
    picture(axes, tinted(pixels(base.frames[0]), split, head), f"{style.clip(name, 26)}{own}", size=8)
    axes.set_xlabel(f"{before} → {after}", fontsize=7.5, color=style.MUTED, labelpad=2)
    for mask in split.masks.numpy():
        if 0 < mask.mean() < 1:
            axes.contour(mask, levels=[0.5], colors=style.PAPER, linewidths=0.5, alpha=0.8)
    few = len(split.names) <= MOST
    told = split.strongest(head) if few else split.strongest(head)[:_STRONGEST]
    for region in told:
        _write(axes, split, head, region, size=7.0 if few else 5.5)


def _write(axes: Axes, split: ExplainedRegions, head: int, region: int, *, size: float) -> None:
    both = float(split.inside_shares[head, region]), float(split.lost_shares[head, region])
    if max(map(abs, both)) < TOLD:
        return
    y, x = _middle(split.masks[region].numpy())
    words = "\n".join(f"{share:.0%}".replace("-", "−") for share in both)
    box = {"boxstyle": "round,pad=0.15", "facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.75}
    axes.text(x, y, words, fontsize=size, color=style.INK, ha="center", va="center", linespacing=1.05, bbox=box)


def _middle(mask: Pixels) -> tuple[float, float]:
    """(row, column) of a place well inside a region."""
    depth = distance_transform_edt(np.pad(mask > 0.5, 1))[1:-1, 1:-1]
    rows, columns = np.nonzero(depth >= depth.max() - 0.5)
    middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return float(rows[middle]), float(columns[middle])


def tinted(image: Pixels, split: ExplainedRegions, head: int) -> Pixels:
    """The image [h, w, 3] in grey, regions in which the change of a head lies in red, those against it in blue."""
    grey = image.mean(axis=2, keepdims=True).repeat(3, axis=2)
    shares = np.nan_to_num(split.inside_shares[head])
    heat = shares / max(1.0, float(np.abs(shares).max()))
    for sign, colour in ((1, style.POSITIVE), (-1, style.NEGATIVE)):
        weights = np.clip(sign * heat, 0, 1)[:, None, None] * split.masks.numpy()
        tint = 0.75 * weights.max(axis=0)[..., None]
        grey = grey * (1 - tint) + np.array(to_rgb(colour)) * tint
    return np.asarray(grey, dtype=np.float32)
