"""Pictures in figures of matplotlib: images, signed changes and heat maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cfalign._figures import style

Pixels = NDArray[np.float32]
SIGNED = LinearSegmentedColormap.from_list("signed", [style.diverging(v) for v in np.linspace(-1, 1, 21)])
HEAT = "magma"
FAMILY = ["DejaVu Sans"]


def change(before: Pixels, after: Pixels) -> Pixels:
    """Signed change [h, w] between two images [h, w, c]: in each pixel that of the channel that changed most."""
    signed = after - before
    strongest = np.abs(signed).argmax(axis=2)
    return np.take_along_axis(signed, strongest[:, :, None], axis=2)[:, :, 0]


def largest(values: NDArray[Any]) -> float:
    """The limit of a colour scale: the 99th percentile of |value|, so that a single pixel does not set it."""
    finite = np.abs(values[np.isfinite(values)])
    return max(float(np.quantile(finite, 0.99)), 1e-6) if finite.size else 1.0


def panel(axes: Axes, title: str = "", *, size: float = 8.0) -> Axes:
    """An empty picture frame with a title."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color(style.RULE)
        side.set_linewidth(0.6)
    axes.set_title(title, fontsize=size, color=style.INK, pad=3)
    return axes


def picture(axes: Axes, image: Pixels, title: str = "", *, size: float = 8.0) -> None:
    """An image [h, w, 3] in [0, 1]."""
    panel(axes, title, size=size).imshow(np.clip(image, 0, 1), interpolation="nearest")


def signed_map(axes: Axes, values: Pixels, title: str = "", *, limit: float | None = None) -> None:
    """A signed map [h, w]: red brighter, blue darker, white unchanged."""
    bound = limit or largest(values)
    panel(axes, title).imshow(values, cmap=SIGNED, vmin=-bound, vmax=bound, interpolation="nearest")


def heat_map(axes: Axes, values: Pixels, title: str = "") -> None:
    """A map [h, w] of values ≥ 0; dark is zero."""
    panel(axes, title).imshow(values, cmap=HEAT, vmin=0.0, vmax=largest(values), interpolation="nearest")


def blank(axes: Axes, words: str, *, title: str = "") -> None:
    """A frame with words instead of a picture."""
    panel(axes, title).text(
        0.5, 0.5, words, ha="center", va="center", fontsize=7, color=style.MUTED, transform=axes.transAxes
    )


def new_figure(width: float, height: float) -> Figure:
    """A figure of ``width`` × ``height`` inches, without a window."""
    figure = Figure(figsize=(width, height), facecolor=style.PAPER)
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: Path, *, dpi: int = 150) -> None:
    """Write a PNG; equal figures give equal bytes."""
    figure.savefig(path, format="png", dpi=dpi, metadata={"Software": None})
