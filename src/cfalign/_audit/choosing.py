"""Which pairs of a chunk are walked: it follows from the scores and from how many each base still lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cfalign._audit.plan import Plan
from cfalign._counterfactuals.batch import Flags, Rows
from cfalign._results import Floats
from cfalign._runs.columns import Column


@dataclass(frozen=True)
class ExaminedPairs:
    """The pairs of a chunk that are looked at, [image, base] each."""

    scores: Floats
    """Of the bases at x0."""
    walked: Flags
    """Predicted positive."""
    ineligible: Flags
    unknown: Flags
    """Without a finite score."""

    @property
    def counts(self) -> Rows:
        """How many count towards the limit of each base."""
        return np.asarray(self.walked.sum(axis=0), dtype=np.int64)


def examined_pairs(plan: Plan, scores: pl.DataFrame, remaining: Rows) -> ExaminedPairs:
    """Choose among the rows of ``scores`` of images that could be read."""
    columns = scores.filter(pl.col("skipped").is_null()).select(Column.RECONSTRUCTION.columns(plan.panel.labels))
    found = plan.scores(columns.to_numpy().astype(np.float64).reshape(-1, len(plan.panel.labels)))
    eligible = found >= plan.options.search.eligible
    looked_at = examined(eligible, remaining.tolist())
    known = np.isfinite(found)
    rest = looked_at & ~eligible
    return ExaminedPairs(found, looked_at & eligible, rest & known, rest & ~known)


def examined(eligible: Flags, remaining: Sequence[int]) -> Flags:
    """Which (image, base) pairs are looked at: every image in order until a base has its number of eligible ones."""
    before: NDArray[np.int64] = np.cumsum(eligible, axis=0) - eligible
    return np.asarray(before < np.asarray(remaining)[None, :])
