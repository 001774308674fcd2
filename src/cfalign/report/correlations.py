"""The three matrices of the paper's Fig. 2: correlation of labels, correlation of predictions, alignment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from cfalign._analysis.correlation import Correlation, LabelCorrelation, correlation
from cfalign._analysis.relations import CORRELATED, UNCORRELATED
from cfalign._errors import BadInput
from cfalign._figures import style
from cfalign._results import Cell
from cfalign._runs.codec import read_rows, write_rows
from cfalign._runs.columns import Column
from cfalign._runs.run import Run
from cfalign.datasets import Labels
from cfalign.report.words import Mark

FILE = "label_correlations.csv"
MOST = 14
"""Heads in each of the three matrices."""
_AUDITED = 6
"""Audited heads among them at most."""
ALIGNED = 0.1
"""Not aligned: the interval of ψ lies within ± this. Aligned: it lies beyond."""
_TOLD = 3

Pair = tuple[str, str]
Table = Mapping[Pair, Correlation]


@dataclass(frozen=True)
class Correlations:
    """How heads and labels go together over the images of a run."""

    names: tuple[str, ...] = ()
    """The heads that matter most, the audited ones first."""
    predictions: Table = field(default_factory=dict)
    """Of the scores on x0, per pair of heads, both ways round."""
    labels: Table = field(default_factory=dict)
    """Of the labels of what the heads are about; empty where the run knows no labels."""


def keep_labels(run: Run, labels: Labels) -> None:
    """Write how the labels of the run's images correlate into the run, for every pair that its heads are about.

    Raises BadInput for labels of other images, and for those that know fewer than two of the heads.
    """
    known = concepts_in(run, labels)
    if len(known) < 2:
        wanted = ", ".join(list(dict.fromkeys(_concepts(run.finished()).values()))[:6])
        raise BadInput(
            f"The labels know {len(known)} of what the heads of {run.path} are about; expected columns of at least two "
            f"of them, such as {wanted}: rename the columns."
        )
    there = set(labels.ids)
    ids = [image_id for image_id in _looked_at(run) if image_id in there]
    if not ids:
        raise BadInput(f"The labels are of other images than the run {run.path}: not one image of it is among them.")
    values = labels.subset(ids).require(known).values
    rows = []
    for i, j in combinations(range(len(known)), 2):
        c = correlation(values[:, i], values[:, j])
        rows.append(LabelCorrelation(known[i], known[j], c.r, c.ci_low, c.ci_high, c.n))
    write_rows(run.path / FILE, rows, LabelCorrelation)


def concepts_in(run: Run, labels: Labels) -> list[str]:
    """What the heads of a run are about, as far as the labels know it."""
    return [name for name in dict.fromkeys(_concepts(run.finished()).values()) if name in labels.targets]


def correlations_of(run: Run, cells: Sequence[Cell], *, shown: Sequence[str], audited: Sequence[str]) -> Correlations:
    """Those of the shown heads that matter most; none without the run's scores.

    ``shown``, ``audited``: heads, those of findings first.
    """
    if not run.shards("scores"):
        return Correlations()
    columns = [Column.RECONSTRUCTION.of(head) for head in shown]
    looked_at = pl.Series(_looked_at(run), dtype=pl.String).implode()
    scores = run.scores().filter(pl.col("skipped").is_null(), pl.col("image_id").cast(pl.String).is_in(looked_at))
    values = {h: scores[c].cast(pl.Float64).to_numpy() for h, c in zip(shown, columns, strict=True)}
    names = _names(values, cells, shown, [a for a in audited if a in values][:_AUDITED])
    predictions = _both_ways(names, lambda a, b: correlation(values[a], values[b]))
    return Correlations(names, predictions, _labels(run, names))


def _names(
    values: Mapping[str, np.ndarray[Any, Any]], cells: Sequence[Cell], shown: Sequence[str], audited: Sequence[str]
) -> tuple[str, ...]:
    """The audited heads, then those that are aligned or correlated with them most."""
    others = [head for head in shown if head not in audited]
    of = audited or shown[:_AUDITED]
    psi = {(c.base, c.downstream): abs(c.psi) for c in cells if math.isfinite(c.psi)}

    def largest(head: str) -> float:
        both = (size for a in of if a != head for size in (psi.get((head, a), 0.0), _size(values[a], values[head])))
        return max(both, default=0.0)

    ranked = sorted(others, key=lambda head: (-largest(head), head))
    return (*audited, *ranked[: MOST - len(audited)])


def _size(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    r = correlation(one, other).r
    return abs(r) if math.isfinite(r) else 0.0


def _labels(run: Run, names: Sequence[str]) -> Table:
    file = run.path / FILE
    if not file.is_file():
        return {}
    known: dict[Pair, Correlation] = {}
    for row in read_rows(file, LabelCorrelation):
        known[row.first, row.second] = known[row.second, row.first] = row.correlation
    about = _concepts(run.record())
    labelled = {name for pair in known for name in pair}

    def of(a: str, b: str) -> Correlation:
        one, other = about[a], about[b]
        unknown = Correlation(math.nan, math.nan, math.nan, 0)
        if one == other and one in labelled:
            return Correlation(1.0, 1.0, 1.0, max((c.n for c in known.values()), default=0))
        return known.get((one, other), unknown)

    return _both_ways(names, of)


def _both_ways(names: Sequence[str], of: Callable[[str, str], Correlation]) -> dict[Pair, Correlation]:
    found = {}
    for i, a in enumerate(names):
        for b in names[i:]:
            found[a, b] = found[b, a] = of(a, b)
    return found


def _concepts(record: Mapping[str, Any]) -> dict[str, str]:
    """The attribute that each head is about."""
    standings = record.get("standings") or {}
    return {h: (standings.get(h) or {}).get("concept") or h.rpartition(":")[2] for h in record["heads"]}


def _looked_at(run: Run) -> list[str]:
    """The images that a search looked at, in the order of their names; the same for every size of chunk."""
    kinds = ["responses", *(["ineligible"] if run.shards("ineligible") else [])]
    return sorted(
        {str(i) for kind in kinds for part in run.each(kind, ["image_id"]) for i in part["image_id"].unique()}
    )


def disagreements(found: Correlations, cells: Sequence[Cell], audited: Sequence[str], mark: Mark) -> list[str]:
    """Where alignment and correlation say different things of an audited head, in a sentence or two."""
    table, what = (found.labels, "labels") if found.labels else (found.predictions, "predictions")
    unused, used = [], []
    for cell in cells:
        pair = (cell.base, cell.downstream)
        r = table[pair].r if pair in table else math.nan
        if cell.base == cell.downstream or not math.isfinite(r) or not math.isfinite(cell.psi):
            continue
        if audited and cell.downstream not in audited:
            continue
        if abs(r) >= CORRELATED and -ALIGNED <= cell.ci_low <= cell.ci_high <= ALIGNED:
            unused.append((abs(r), _told(cell, r, mark)))
        if abs(r) < UNCORRELATED and (cell.ci_low > ALIGNED or cell.ci_high < -ALIGNED) and cell.clear:
            used.append((abs(cell.psi), _told(cell, r, mark)))
    parts = [
        f"Correlated in the {what}, but the head does not move along: {_some(unused)}." if unused else "",
        f"Hardly correlated in the {what}, but the head moves along: {_some(used)}." if used else "",
    ]
    said = [part for part in parts if part]
    none = f"On none of these pairs do alignment and the correlation of {what} contradict each other clearly."
    return said or [none]


def _told(cell: Cell, r: float, mark: Mark) -> str:
    numbers = f"r = {style.signed(r)}, ψ = {style.signed(cell.psi)} {style.interval(cell.ci_low, cell.ci_high)}"
    return f"{mark(cell.downstream)} and {mark(cell.base)} ({numbers})"


def _some(ranked: Sequence[tuple[float, str]]) -> str:
    ordered = [told for _, told in sorted(ranked, key=lambda one: -one[0])]
    more = len(ordered) - _TOLD
    return "; ".join(ordered[:_TOLD]) + (f"; and {more} more" if more > 0 else "")
