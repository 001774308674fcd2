"""The small matrices that stand side by side: alignment, correlation of predictions, correlation of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from cfalign._analysis.correlation import Correlation
from cfalign._figures import style
from cfalign._figures import svg as figures
from cfalign.report.content import ReportData
from cfalign.report.correlations import Table

LEAST = 2
"""Heads below which there is nothing to compare."""


@dataclass(frozen=True)
class Panel:
    """One matrix with its title and what it shows."""

    title: str
    told: str
    figure: Markup


def panels(data: ReportData) -> list[Panel]:
    """The matrices in the order of the paper's Fig. 2; that of labels only where the run knows some."""
    names = ordered_names(data)
    if len(names) < LEAST:
        return []
    found = [_alignment(data, names)]
    told = "r of the heads' scores, over images"
    found.append(_correlations("Correlation of predictions", told, data.correlations.predictions, names))
    if data.correlations.labels:
        told = "r of the labels of what the heads are about"
        found.append(_correlations("Correlation of labels", told, data.correlations.labels, names))
    return found


def ordered_names(data: ReportData) -> list[str]:
    """The heads of the matrices, similar ones together, audited ones last, the same in all of them."""
    chosen = set(data.correlations.names)
    cells = [c for c in data.conclusions.cells if c.base in chosen and c.downstream in chosen]
    _, columns = figures.matrix_order(cells, apart=data.apart)
    return [*columns, *(name for name in data.correlations.names if name not in columns)]


def _alignment(data: ReportData, names: Sequence[str]) -> Panel:
    cells = {(c.base, c.downstream): c for c in data.conclusions.cells}
    hovers = {}
    for row in names:
        for column in names:
            cell = cells.get((row, column))
            if cell is None or not math.isfinite(cell.psi):
                hovers[row, column] = f"base {row} → downstream {column}\nno value"
            else:
                interval = style.interval(cell.ci_low, cell.ci_high)
                numbers = f"ψ = {style.signed(cell.psi)} {interval}, n = {cell.n}"
                hovers[row, column] = f"base {row} → downstream {column}\n{numbers}"
    values = {pair: cell.psi for pair, cell in cells.items()}
    drawn = figures.value_matrix(names, values, label=_label("Alignment", names), hovers=hovers)
    return Panel("Alignment ψ", "row: base, column: downstream", Markup(drawn))


def _correlations(title: str, told: str, table: Table, names: Sequence[str]) -> Panel:
    pairs = {(a, b): table[a, b] for a in names for b in names if (a, b) in table}
    values = {pair: c.r for pair, c in pairs.items()}
    hovers = {(a, b): f"{a} and {b}\n{_numbers(c)}" for (a, b), c in pairs.items()}
    return Panel(title, told, Markup(figures.value_matrix(names, values, label=_label(title, names), hovers=hovers)))


def _numbers(c: Correlation) -> str:
    if not math.isfinite(c.r):
        return f"no value: n = {c.n}, or one of the two does not vary"
    return f"r = {style.signed(c.r)} {style.interval(c.ci_low, c.ci_high)}, n = {c.n}"


def _label(title: str, names: Sequence[str]) -> str:
    return f"{title} of {len(names)} heads, row by column"
