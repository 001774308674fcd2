"""Fig. 3: single images, and how the counterfactuals of one head change the scores of the others."""

from __future__ import annotations

from cfalign._paper.figure_job import Entry, FigureJob, PaperFigure
from cfalign._paper.single_image import draw_explained

BASES = ("male", "attractive")


def make(job: FigureJob) -> Entry:
    """One image per base."""
    return {base: draw_explained(job, f"fig3_{base}", base) for base in BASES}


FIGURE_3 = PaperFigure("fig3", "single images", make, lambda entry: ["done"])
