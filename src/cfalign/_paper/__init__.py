"""The figures of the paper: one module per figure, the study with its drawing. ``reproduce`` makes them."""

from cfalign._paper.figure_inputs import FigureInputs, embedded_inputs
from cfalign._paper.reproduction import FIGURES, Reproduction, figures_named, reproduce

__all__ = ["FIGURES", "FigureInputs", "Reproduction", "embedded_inputs", "figures_named", "reproduce"]
