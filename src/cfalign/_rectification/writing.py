"""The files of a rectification: its classifier, its numbers and its curves."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from cfalign._figures.plots.rectification import Curve, rectification_curves
from cfalign._rectification.rectified import Rectified
from cfalign._runs.codec import write_json, write_text
from cfalign.datasets import LabelReading

PARTS = ("beta", "psi_train", "psi_logit_train", "psi_validation", "psi_logit_validation")
"""Columns of ``curves.csv`` for every shortcut."""


def write_rectified(found: Rectified, out: Path, *, labels: LabelReading | None = None) -> None:
    """Write ``summary.json``, ``rectified.json``, ``curves.csv`` and ``curves.png`` into the folder ``out``.

    ``labels``: how they were read, for the summary.
    """
    read = {} if labels is None else {"labels": labels.as_dict()}
    write_json(out / "summary.json", {**found.as_dict(), **read})
    found.save(out / "rectified.json")
    write_text(out / "curves.csv", _table(found))
    curves = [
        Curve(
            shortcut.name,
            [s.step for s in found.curve],
            [s.beta[i] for s in found.curve],
            [s.psi_train[i] for s in found.curve],
            [s.psi_validation[i] for s in found.curve],
        )
        for i, shortcut in enumerate(found.against)
    ]
    how = f"{found.options.solver}, {found.options.reading_name} ψ"
    title = f"{found.target.name} rectified ({how}): {found.ending_words}"
    rectification_curves(curves, out / "curves.png", title=title, best_step=found.best_step)


def _table(found: Rectified) -> str:
    """The curve as CSV, at six digits; nothing where a number is undefined."""
    names = [c.name for c in found.against]
    header = ["step", *(f"{part}.{name}" for name in names for part in PARTS), "n_train", "n_validation", "decodes"]
    lines = [",".join(header)]
    for step in found.curve:
        numbers = chain.from_iterable((getattr(step, part)[i] for part in PARTS) for i in range(len(names)))
        cells = ["" if value != value else f"{value:.6g}" for value in numbers]
        lines.append(",".join([str(step.step), *cells, *map(str, (step.n_train, step.n_validation, step.decodes))]))
    return "\n".join(lines) + "\n"
