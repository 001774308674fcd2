"""Fig. 9: the matrix of all heads against all heads."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._paper.material import Material
from cfalign._runs.progress import Progress, silent


def complete(
    material: Material, out: str | Path, *, options: AuditOptions | None = None, progress: Progress = silent
) -> pl.DataFrame:
    """``matrix.csv`` of every head of the classifier as base and downstream; the run goes to ``out``."""
    run = audit(
        material.images, material.classifier, autoencoder=material.autoencoder,
        options=options or AuditOptions(limit=100, shown=0), out=out, progress=progress,
    )  # fmt: skip
    return run.matrix()
