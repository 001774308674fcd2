"""Fig. 6: one image, seen through a head and through the head with a shortcut taken off."""

from __future__ import annotations

from cfalign._paper.figure_job import Entry, FigureJob, PaperFigure
from cfalign._paper.single_image import draw_explained

HEAD = "heavy_makeup"
REPAIRED = "heavy_makeup - 0.3*big_lips"


def make(job: FigureJob) -> Entry:
    """The same image for both."""
    return draw_explained(job, "fig6", HEAD, REPAIRED)


FIGURE_6 = PaperFigure("fig6", "one image repaired", make, lambda entry: ["done"])
