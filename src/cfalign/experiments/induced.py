"""Fig. 5: a shortcut built in on purpose, ``smiling + c·arched_eyebrows``, and how alignment rises with its dose c."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import polars as pl

from cfalign.audit import audit
from cfalign.composition import head
from cfalign.engines.local import Progress, silent
from cfalign.experiments.material import Material
from cfalign.sweep import AuditOptions

DOSES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Induced:
    """ψ of the composition towards the shortcut, by dose."""

    target: str
    shortcut: str
    table: pl.DataFrame
    """One row per dose: coefficient, psi, ci_low, ci_high, n, excluded."""

    @property
    def monotone(self) -> bool:
        """Whether ψ rises with every step of the dose."""
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
    """ψ(target + c·shortcut → shortcut) for every dose c; the run goes to ``out``.

    The compositions are on probabilities (Eq. 4). BadInput: an unknown head.
    """
    f, g = (head(material.classifier, name) for name in (target, shortcut))
    bases = [(f + dose * g).name if dose else f.name for dose in doses]
    options = options or AuditOptions(limit=200, shown=0)
    run = audit(
        material.images, material.classifier, autoencoder=material.autoencoder, bases=bases, downstream=[shortcut],
        options=replace(options, shown=0), out=out, progress=progress,
    )  # fmt: skip
    cells = {r["base"]: r for r in run.matrix().filter(pl.col("downstream") == shortcut).to_dicts()}
    keys = ("psi", "ci_low", "ci_high", "n", "excluded")
    rows = [{"coefficient": dose, **{k: cells[b][k] for k in keys}} for dose, b in zip(doses, bases, strict=True)]
    return Induced(target, shortcut, pl.DataFrame(rows))
