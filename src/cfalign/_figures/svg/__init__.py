"""Figures as inline SVG for the report: results in, strings out."""

from cfalign._figures.svg.alignment import Walk, alignment_plot
from cfalign._figures.svg.counts import Control, controls_plot, outcome_bar
from cfalign._figures.svg.forest import (
    Scale,
    by_size,
    common_scale,
    effect_axis,
    effect_mark,
    forest_thumbnail,
    why_missing,
)
from cfalign._figures.svg.heatmap import colour_bar, matrix_heatmap, matrix_order
from cfalign._figures.svg.value_matrix import value_matrix

__all__ = [
    "Control",
    "Scale",
    "Walk",
    "alignment_plot",
    "by_size",
    "colour_bar",
    "common_scale",
    "controls_plot",
    "effect_axis",
    "effect_mark",
    "forest_thumbnail",
    "matrix_heatmap",
    "matrix_order",
    "outcome_bar",
    "value_matrix",
    "why_missing",
]
