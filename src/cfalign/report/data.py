"""What a report is made of: a run directory, read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cfalign._analysis.relations import Relation
from cfalign._figures.svg import Control, Walk
from cfalign._results import Cell, Effect, Finding, GroupGap

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Model:
    """One model that took part."""

    name: str
    role: str
    """``autoencoder``, ``audited`` or ``reference``."""
    targets: tuple[str, ...]
    hash: str


@dataclass(frozen=True)
class Skipped:
    """An image file that could not be used."""

    image_id: str
    reason: str


@dataclass(frozen=True)
class Followed:
    """How far an independent judge follows the counterfactuals of one attribute: 1 wholly, 0 not at all."""

    attribute: str
    share: float
    ci_low: float
    ci_high: float
    n: int


@dataclass(frozen=True)
class ReportData:
    """Everything that the three renderings need; nothing is read after this."""

    run_dir: Path
    versions: Mapping[str, str]
    """``cfalign`` and ``torch``."""
    seed: int | None
    settings: Mapping[str, object]
    """As the audit recorded them, possibly nested."""
    models: tuple[Model, ...]
    source: str
    images: int
    images_hash: str
    skipped: tuple[Skipped, ...]
    heads: tuple[str, ...]
    bases: tuple[str, ...]
    audited: tuple[str, ...]
    attributes: tuple[str, ...]
    outcomes: Mapping[str, Mapping[str, int]]
    """Per base, how many searches ended how."""
    exclusions: Mapping[str, Mapping[str, int]]
    """Per base, how many counterfactuals were left out of the matrix and why."""
    cost: Mapping[str, float]
    timing: Mapping[str, float]
    """Seconds per stage."""
    cells: tuple[Cell, ...]
    effects: tuple[Effect, ...]
    findings: tuple[Finding, ...]
    gaps: tuple[GroupGap, ...]
    """Of every audited head and attribute."""
    relations: tuple[Relation, ...]
    """What goes together against what is used."""
    followed: tuple[Followed, ...]
    """How far the judge follows the counterfactuals of each attribute, least first; none without a judge."""
    controls: tuple[Control, ...]
    """Per head, in the order of ``heads``."""
    walks: Mapping[tuple[str, str], Walk]
    """Per (image_id, base) behind a finding: scores along the ray, or of its two ends."""
    pictures: Mapping[str, Pixels]
    """Per path relative to the run, [height, width, 3], at most 256 px a side; unreadable and absent files are not in
    it.
    """

    @property
    def ratios(self) -> dict[tuple[str, str], float]:
        """(base, downstream) → ΣΔdownstream / ΣΔbase."""
        return {(c.base, c.downstream): c.ratio_of_means for c in self.cells}
