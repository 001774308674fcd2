"""What the numbers of a report rest on: counterfactuals that were made, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cfalign._figures import style
from cfalign._results import Cell, Outcome
from cfalign.report.content import ReportData
from cfalign.report.words import Mark, list_of, plural

MEANINGS: Mapping[str, str] = {
    Outcome.REACHED: "the base score fell by what was asked for",
    Outcome.FLOOR: "the start was too low for that; the score fell to the floor instead",
    Outcome.TURNED: "the score began to rise again before",
    Outcome.IMAGE_LIMIT: "the image had changed as much as allowed before",
    Outcome.LAMBDA_LIMIT: "the step or the number of tries reached its limit before",
    Outcome.FLAT: "the gradient is zero, there is no direction to walk in",
    Outcome.NOT_FINITE: "a score, a gradient or the image was not a number",
    Outcome.NOT_ELIGIBLE: "the base does not predict this image positive, so there is nothing to remove",
}


def without_counterfactual(data: ReportData, mark: Mark) -> str:
    """Which bases have no counterfactual at all, in one sentence; nothing where all have some."""
    idle = [b for b in data.bases if b in data.counts.outcomes and not made_for(data, b)]
    if not idle:
        return ""
    none = "no image is predicted positive by it" if len(idle) == 1 else "no image is predicted positive by them"
    return f"No counterfactual for {plural(len(idle), 'base')} ({list_of(idle, mark, most=6)}): {none}."


def made_for(data: ReportData, base: str) -> int:
    """Searches that were begun for a base: all images but those not eligible."""
    return sum(n for outcome, n in data.counts.outcomes.get(base, {}).items() if outcome != Outcome.NOT_ELIGIBLE)


def landed(data: ReportData, base: str) -> int:
    """Searches of a base that met their aim."""
    row = data.counts.outcomes.get(base, {})
    return row.get(Outcome.REACHED, 0) + row.get(Outcome.FLOOR, 0)


def exclusion_reasons(counts: Mapping[str, int]) -> str:
    """``12 × base change too small, 1 × not finite``, or nothing; images that are not eligible had no
    counterfactual.
    """
    return ", ".join(
        f"{n} × {reason.replace('_', ' ')}" for reason, n in counts.items() if n and reason != Outcome.NOT_ELIGIBLE
    )


def used(cells: Sequence[Cell], base: str) -> str:
    """Images that the off-diagonal cells of a row rest on: ``80``, ``74 to 80``, or a dash."""
    counts = [c.n for c in cells if c.base == base]
    if not counts:
        return style.DASH
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def basis(data: ReportData) -> str:
    """How many counterfactuals there are and how many images a cell of the matrix rests on."""
    made = sum(made_for(data, b) for b in data.bases)
    met = sum(landed(data, b) for b in data.bases)
    counts = sorted(c.n for c in data.conclusions.cells if c.base != c.downstream and c.n > 0)
    words = f"{plural(len(data.bases), 'base')}, {plural(made, 'counterfactual')}"
    if made:
        words += f", of which {met / made:.0%} met their aim"
    if counts:
        middle = counts[len(counts) // 2]
        words += f"; a cell of the matrix rests on {counts[0]} to {counts[-1]} images (median {middle})"
    return words + "."
