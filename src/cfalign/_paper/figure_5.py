"""Fig. 5: an induced shortcut, ``smiling + c·arched_eyebrows``, and alignment as its dose c rises.

The sum of Eq. 4 has the range [0, 1 + c]: a drop of 0.6 is a smaller part of it as c grows. For c ≥ 0.6 the shortcut
alone can produce the whole drop; ψ of the sum is then at most 1/c, and falls. The composition divided by 1 + c has the
same direction of the gradient, and the range of one head at every dose; its ψ is the dose–response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._figures import style
from cfalign._figures.plots.pixels import new_figure
from cfalign._heads.composition import head
from cfalign._paper.figure_inputs import FigureInputs
from cfalign._paper.figure_job import Entry, FigureJob, PaperFigure
from cfalign._paper.single_image import draw_explained
from cfalign._runs.progress import Progress, silent

DOSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
QUICK_DOSES = (0.0, 0.3, 1.0)


@dataclass(frozen=True)
class InducedShortcut:
    """ψ of the composition towards the shortcut, by dose."""

    target: str
    shortcut: str
    table: pl.DataFrame
    """One row per dose: coefficient; psi, ci_low, ci_high, n and excluded of (target + c·shortcut) / (1 + c); the same
    of the sum in the columns ``sum_…``.
    """

    @property
    def monotone(self) -> bool:
        """Whether ψ of the composition divided by 1 + c rises with every step of the dose."""
        psi = self.table["psi"].to_list()
        return all(a < b for a, b in pairwise(psi))


def induced_shortcut(
    inputs: FigureInputs,
    out: str | Path,
    *,
    target: str = "smiling",
    shortcut: str = "arched_eyebrows",
    doses: Sequence[float] = DOSES,
    options: AuditOptions | None = None,
    progress: Progress = silent,
) -> InducedShortcut:
    """ψ(target + c·shortcut → shortcut) for every dose c, of the sum and of the sum divided by 1 + c; run in ``out``.

    The compositions are on probabilities (Eq. 4). Raises BadInput for an unknown head.
    """
    f, g = (head(inputs.classifier, name) for name in (target, shortcut))
    sums = [f + dose * g if dose else f for dose in doses]
    shares = [1 / (1 + dose) * f + dose / (1 + dose) * g if dose else f for dose in doses]
    bases = list(dict.fromkeys((*sums, *shares)))
    run = audit(
        inputs.images,
        bases,
        autoencoder=inputs.autoencoder,
        downstream=[shortcut],
        options=replace(options or AuditOptions(limit=200), shown=0),
        out=out,
        progress=progress,
    )
    labels = dict(zip(bases, run.record()["audited"], strict=True))
    cells = {cell.base: cell for cell in run.cells() if cell.downstream == shortcut}
    rows = []
    for dose, share, total in zip(doses, shares, sums, strict=True):
        row = {"coefficient": dose}
        for start, composition in (("", share), ("sum_", total)):
            cell = cells[labels[composition]]
            row |= {start + key: getattr(cell, key) for key in ("psi", "ci_low", "ci_high", "n", "excluded")}
        rows.append(row)
    return InducedShortcut(target, shortcut, pl.DataFrame(rows))


def dose_figure(result: InducedShortcut) -> Figure:
    """ψ towards the shortcut against its coefficient, with 95 % intervals."""
    figure = new_figure(5.2, 3.4)
    axes = figure.add_axes((0.13, 0.16, 0.83, 0.72))
    axes.axhline(0, color=style.RULE, linewidth=0.8)
    _curve(
        axes,
        result.table,
        "sum_",
        label="the sum, whose range grows with c",
        color=style.MUTED,
        marker="s",
        markersize=3.5,
        capsize=2,
        linewidth=1,
        linestyle="--",
    )
    _curve(
        axes,
        result.table,
        "",
        label="divided by 1 + c: a drop of the same share",
        color=style.NEGATIVE,
        marker="o",
        markersize=4,
        capsize=2.5,
    )
    axes.legend(fontsize=7, frameon=False, loc="lower right")
    axes.set_xlabel(f"coefficient c of {result.shortcut}", fontsize=8, color=style.INK)
    axes.set_ylabel(f"ψ → {result.shortcut}", fontsize=8, color=style.INK)
    counts = result.table["n"].to_list()
    bases = f"counterfactuals of {result.target} + c·{result.shortcut}"
    title = f"{bases} (n {min(counts)} to {max(counts)}, 95 % intervals)"
    axes.set_title(title, fontsize=8.5, color=style.INK)
    axes.tick_params(labelsize=7.5, colors=style.INK)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _curve(axes: Axes, table: pl.DataFrame, start: str, **look: object) -> None:
    """ψ with its interval, from the columns that begin with ``start``."""
    psi, low, high = (table[start + name].to_numpy() for name in ("psi", "ci_low", "ci_high"))
    axes.errorbar(table["coefficient"].to_numpy(), psi, yerr=np.stack([psi - low, high - psi]), **look)  # type: ignore[arg-type]


def make(job: FigureJob) -> Entry:
    """The dose–response, and one image at c = 0.3."""
    result = induced_shortcut(
        job.inputs,
        job.run("fig5"),
        doses=QUICK_DOSES if job.quick else DOSES,
        options=job.audit_options(200, 30),
        progress=job.progress("fig5"),
    )
    job.save("fig5", dose_figure(result))
    job.save_table("fig5", result.table)
    images = draw_explained(job, "fig5_images", result.target, f"{result.target} + 0.3*{result.shortcut}")
    return {"monotone": result.monotone, "doses": result.table.to_dicts(), "images": images}


def lines(entry: Entry) -> list[str]:
    """ψ at every dose."""
    doses = [f"{d['coefficient']:g}: {d['psi']:+.2f} [{d['ci_low']:+.2f}, {d['ci_high']:+.2f}]" for d in entry["doses"]]
    return [f"ψ by dose {'; '.join(doses)}"]


FIGURE_5 = PaperFigure("fig5", "an induced shortcut by dose", make, lines)
