"""Fig. 6: one image, explained for a head and for the head minus a shortcut."""

from __future__ import annotations

from cfalign._paper.figure_job import Entry, FigureJob, PaperFigure
from cfalign._paper.single_image import draw_explained

HEAD = "heavy_makeup"
REPAIRED = "heavy_makeup - 0.3*big_lips"


def make(job: FigureJob) -> Entry:
    """The same image for both."""
    return draw_explained(job, "fig6", HEAD, REPAIRED)


FIGURE_6 = PaperFigure("fig6", "one image repaired", make, lambda entry: ["done"])
