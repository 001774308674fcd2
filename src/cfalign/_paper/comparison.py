"""Fig. 2: counterfactual alignment beside the correlation of predictions and the correlation of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._errors import BadInput
from cfalign._paper.material import CLASSES, Material
from cfalign._results import Floats
from cfalign._runs.columns import Column
from cfalign._runs.progress import Progress, silent

FEW = 10
"""A class with fewer counterfactuals is named as skipped."""
CORRELATED, ALIGNED = 0.2, 0.1
"""Correlated: |r| of the predictions at least this. Not aligned: the interval of ψ within ± this."""


@dataclass(frozen=True)
class Comparison:
    """Three readings of the same pairs."""

    classes: tuple[str, ...]
    table: pl.DataFrame
    """One row per (base, downstream): psi, ci_low, ci_high, n, q as in ``matrix.csv``; prediction_correlation and
    label_correlation over the images with their 95 % intervals (Fisher's z) and n; NaN where a class does not vary.
    """
    skipped: dict[str, str]

    def grid(self, column: str) -> Floats:
        """[base, downstream] of a column of the table."""
        n = len(self.classes)
        return self.table[column].to_numpy().astype(np.float64).reshape(n, n)

    def unused(self) -> list[dict[str, Any]]:
        """Pairs whose predictions correlate but which are not aligned, the most correlated first."""
        rows = self.table.filter(
            (pl.col("base") != pl.col("downstream"))
            & pl.col("prediction_correlation").is_not_nan()
            & (pl.col("prediction_correlation").abs() >= CORRELATED)
            & (pl.col("ci_low") >= -ALIGNED)
            & (pl.col("ci_high") <= ALIGNED)
        )
        return rows.sort(pl.col("prediction_correlation").abs(), descending=True).to_dicts()

    def asymmetric(self, most: int = 10) -> list[dict[str, Any]]:
        """Pairs whose two directions differ beyond their intervals, largest difference first.

        The interval of the difference takes both directions as independent: ± √(h₁² + h₂²) of their half widths.
        """
        known = {(r["base"], r["downstream"]): r for r in self.table.to_dicts()}
        found = []
        for i, a in enumerate(self.classes):
            for b in self.classes[i + 1 :]:
                there, back = known[a, b], known[b, a]
                difference = there["psi"] - back["psi"]
                half = math.hypot(*((r["ci_high"] - r["ci_low"]) / 2 for r in (there, back)))
                if abs(difference) > half:
                    low, high = difference - half, difference + half
                    ends = {"difference": difference, "ci_low": low, "ci_high": high, "n": [there["n"], back["n"]]}
                    found.append({"pair": [a, b], "psi": there["psi"], "psi_back": back["psi"], **ends})
        return sorted(found, key=lambda f: -abs(float(f["difference"])))[:most]


def comparison(
    material: Material,
    out: str | Path,
    *,
    classes: Sequence[str] = CLASSES,
    options: AuditOptions | None = None,
    progress: Progress = silent,
) -> Comparison:
    """CF alignment, prediction correlation and label correlation of some classes; the run goes to ``out``.

    ``options.limit``: counterfactuals per class, 400 by default as in the paper. BadInput: fewer than two classes.
    """
    kept, skipped = material.classes(classes)
    run = audit(
        material.images, material.classifier, autoencoder=material.autoencoder, bases=kept, downstream=kept,
        options=options or AuditOptions(limit=400, shown=0), out=out, progress=progress,
    )  # fmt: skip
    matrix = run.matrix().filter(pl.col("base").is_in(kept) & pl.col("downstream").is_in(kept))
    made = {base: int(matrix.filter(pl.col("base") == base)["n"].to_numpy().max()) for base in kept}
    few = {c: n for c, n in made.items() if n < FEW}
    skipped |= {c: f"{n} counterfactuals, at least {FEW} are needed" for c, n in few.items()}
    classes_left = tuple(c for c in kept if c not in few)
    if not classes_left:
        counts = ", ".join(f"{c}: {n}" for c, n in few.items())
        raise BadInput(
            f"No class has the {FEW} counterfactuals that are needed ({counts}): give more images of each, or a higher "
            "limit."
        )
    scores = run.scores().filter(pl.col("skipped").is_null())
    predictions = np.stack([scores[Column.RECONSTRUCTION.of(c)].to_numpy() for c in classes_left], axis=1)
    labels = None
    if material.labels is not None:
        labels = material.labels.subset(scores["image_id"].to_list()).require(classes_left).values
    rows = []
    cells = {(r["base"], r["downstream"]): r for r in matrix.to_dicts()}
    for i, base in enumerate(classes_left):
        for j, downstream in enumerate(classes_left):
            cell = cells[base, downstream]
            row = {k: cell[k] for k in ("base", "downstream", "psi", "ci_low", "ci_high", "n", "q")}
            row |= _correlation("prediction", predictions[:, i], predictions[:, j])
            blank = np.full(0, np.nan)
            row |= _correlation("label", *((labels[:, i], labels[:, j]) if labels is not None else (blank, blank)))
            rows.append({k: math.nan if v is None else v for k, v in row.items()})
    return Comparison(classes_left, pl.DataFrame(rows, infer_schema_length=None), skipped)


def _correlation(name: str, a: Floats, b: Floats) -> dict[str, float]:
    """Pearson's r with its 95 % interval by Fisher's z and n; NaN where one does not vary or n < 4."""
    known = np.isfinite(a) & np.isfinite(b)
    a, b, n = a[known], b[known], int(known.sum())
    keys = (f"{name}_correlation", f"{name}_ci_low", f"{name}_ci_high")
    if n < 4 or a.std() == 0 or b.std() == 0:
        return {**dict.fromkeys(keys, math.nan), f"{name}_n": n}
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))
    z, half = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12)), 1.959964 / math.sqrt(n - 3)
    return {**dict(zip(keys, (r, float(np.tanh(z - half)), float(np.tanh(z + half))), strict=True)), f"{name}_n": n}
