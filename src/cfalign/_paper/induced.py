"""Fig. 5: a shortcut built in on purpose, ``smiling + c·arched_eyebrows``, and how alignment rises with its dose c.

The sum of Eq. 4 reaches 1 + c, so that a drop of 0.6 is a smaller part of its range the larger c is; and where the
shortcut alone can do the whole drop, for c ≥ 0.6, ψ of the sum cannot exceed 1/c, and falls. Divided by 1 + c the
composition has the same gradient's direction and the range of one head at every dose; its ψ is the dose–response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import polars as pl

from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._heads.composition import head
from cfalign._paper.material import Material
from cfalign._runs.progress import Progress, silent

DOSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Induced:
    """ψ of the composition towards the shortcut, by dose."""

    target: str
    shortcut: str
    table: pl.DataFrame
    """One row per dose: coefficient; psi, ci_low, ci_high, n, excluded of (target + c·shortcut) / (1 + c); and under
    ``sum_…`` the same of the sum.
    """

    @property
    def monotone(self) -> bool:
        """Whether ψ of the composition divided by 1 + c rises with every step of the dose."""
        psi = self.table["psi"].to_list()
        return all(a < b for a, b in pairwise(psi))


def induced(
    material: Material,
    out: str | Path,
    *,
    target: str = "smiling",
    shortcut: str = "arched_eyebrows",
    doses: Sequence[float] = DOSES,
    options: AuditOptions | None = None,
    progress: Progress = silent,
) -> Induced:
    """ψ(target + c·shortcut → shortcut) for every dose c, both divided by 1 + c and as it is; the run goes to ``out``.

    The compositions are on probabilities (Eq. 4). BadInput: an unknown head.
    """
    f, g = (head(material.classifier, name) for name in (target, shortcut))
    sums = [f + dose * g if dose else f for dose in doses]
    shares = [1 / (1 + dose) * f + dose / (1 + dose) * g if dose else f for dose in doses]
    bases = list(dict.fromkeys((*sums, *shares)))
    options = options or AuditOptions(limit=200, shown=0)
    run = audit(
        material.images, bases, autoencoder=material.autoencoder, downstream=[shortcut],
        options=replace(options, shown=0), out=out, progress=progress,
    )  # fmt: skip
    labels = dict(zip(bases, run.record()["audited"], strict=True))
    cells = {r["base"]: r for r in run.matrix().filter(pl.col("downstream") == shortcut).to_dicts()}
    keys = ("psi", "ci_low", "ci_high", "n", "excluded")
    rows = [
        {"coefficient": dose}
        | {key: cells[labels[share]][key] for key in keys}
        | {f"sum_{key}": cells[labels[total]][key] for key in keys}
        for dose, share, total in zip(doses, shares, sums, strict=True)
    ]
    return Induced(target, shortcut, pl.DataFrame(rows))
