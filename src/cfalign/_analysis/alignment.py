"""Relative change ψ (Eq. 3) and its aggregation into the alignment matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logit

from cfalign._analysis.on_demand import Block
from cfalign._analysis.options import AlignmentOptions
from cfalign._analysis.statistics import (
    People,
    exchange_p,
    exchanged_sums,
    generator,
    q_values,
    resampled_interval,
    resampled_sums,
)
from cfalign._results import Cell, Floats, Outcome


@dataclass(frozen=True)
class Row:
    """All counterfactuals of one base, [m] images by [h] downstream heads; scores are probabilities."""

    base: str
    image: np.ndarray[tuple[int], np.dtype[np.int64]]
    """The image of each counterfactual, as an index that all rows share."""
    outcomes: tuple[Outcome, ...]
    base_before: Floats
    base_after: Floats
    before: Block
    after: Block
    null: Block
    """Scores on the control: the same latent distance in a random direction."""

    def __len__(self) -> int:
        return len(self.base_before)

    @property
    def base_change(self) -> Floats:
        return self.base_after - self.base_before

    @property
    def change(self) -> Floats:
        """Change of every head's score, [m, h]."""
        return np.asarray(self.after) - np.asarray(self.before)

    @property
    def null_change(self) -> Floats:
        """The same on the control."""
        return np.asarray(self.null) - np.asarray(self.before)

    def where(self, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Row:
        """The counterfactuals that are kept."""
        outcomes = tuple(o for o, k in zip(self.outcomes, keep, strict=True) if k)
        return Row(
            base=self.base,
            image=self.image[keep],
            outcomes=outcomes,
            base_before=self.base_before[keep],
            base_after=self.base_after[keep],
            before=self.before[keep],
            after=self.after[keep],
            null=self.null[keep],
        )


def relative_change(change: Floats, base_change: Floats, *, min_base_change: float) -> Floats:
    """ψ = Δdownstream / Δbase (Eq. 3), [m, head] / [m]; NaN where |Δbase| < ``min_base_change``."""
    defined = np.abs(base_change) >= min_base_change
    safe = np.where(defined, base_change, np.nan)
    return change / safe[:, None]


def usable(row: Row, *, min_base_change: float) -> tuple[Row, dict[str, int]]:
    """The counterfactuals that count, and how many of the others there are by reason."""
    eligible = np.array([o is not Outcome.NOT_ELIGIBLE for o in row.outcomes], dtype=bool)
    made = np.array([o.walked for o in row.outcomes], dtype=bool)
    small = made & ~(np.abs(row.base_change) >= min_base_change)
    unknown = made & ~small & ~(np.isfinite(row.before[:]).all(axis=1) & np.isfinite(row.after[:]).all(axis=1))
    reasons = {o.value: row.outcomes.count(o) for o in Outcome if not o.walked and o in row.outcomes}
    reasons |= {"base_change_too_small": int(small.sum())} if small.any() else {}
    reasons |= {"response_not_finite": int(unknown.sum())} if unknown.any() else {}
    return row.where(eligible & made & ~small & ~unknown), reasons


def alignment(
    rows: Sequence[Row],
    heads: Sequence[str],
    *,
    logit_scale: Mapping[str, float],
    options: AlignmentOptions,
    seed: int = 0,
    people: People | None = None,
) -> list[Cell]:
    """The alignment matrix, one cell per (base, downstream head), base by base.

    ``logit_scale``: standard deviation of each head's logit over the images, and of each base's where it has one.
    ``people``: the group of each image, by the numbers of ``Row.image``, where images are not independent.
    """
    cells = [cell for row in rows for cell in _cells_of(row, heads, logit_scale, options, seed, people)]
    q = q_values(np.array([c.p for c in cells]))
    return [replace(cell, q=float(value)) for cell, value in zip(cells, q, strict=True)]


def _cells_of(
    row: Row,
    heads: Sequence[str],
    logit_scale: Mapping[str, float],
    options: AlignmentOptions,
    seed: int,
    people: People | None,
) -> list[Cell]:
    used, reasons = usable(row, min_base_change=options.min_base_change)
    excluded = sum(n for reason, n in reasons.items() if reason != Outcome.NOT_ELIGIBLE)
    if not len(used):
        return [_cell(row.base, h, {}, n=0, excluded=excluded) for h in heads]
    change = used.change
    psi = relative_change(change, used.base_change, min_base_change=options.min_base_change)
    null = relative_change(used.null_change, used.base_change, min_base_change=options.min_base_change)
    who = None if people is None else people[used.image]
    rng = generator(seed, "bootstrap", row.base)
    sums, drawn = resampled_sums(psi, resamples=options.resamples, rng=rng, people=who)
    low, high = resampled_interval(sums / drawn[:, None], psi.mean(axis=0), who)
    p = _null_p(psi, null, options.draws, generator(seed, "exchange", row.base), who)
    columns = {
        "psi": psi.mean(axis=0),
        "ratio_of_means": change.sum(axis=0) / used.base_change.sum(),
        "median": np.median(psi, axis=0),
        "psi_logit": _psi_logit(used, heads, logit_scale),
        "ci_low": low,
        "ci_high": high,
        "p": np.where(np.array(heads) == row.base, np.nan, p),
    }
    return [
        _cell(row.base, h, {name: float(v[i]) for name, v in columns.items()}, n=len(used), excluded=excluded)
        for i, h in enumerate(heads)
    ]


def _cell(base: str, head: str, numbers: Mapping[str, float], *, n: int, excluded: int) -> Cell:
    """A cell before its q is known; numbers that are not given are NaN."""
    nan = float("nan")
    return Cell(
        base=base,
        downstream=head,
        psi=numbers.get("psi", nan),
        ratio_of_means=numbers.get("ratio_of_means", nan),
        median=numbers.get("median", nan),
        psi_logit=numbers.get("psi_logit", nan),
        ci_low=numbers.get("ci_low", nan),
        ci_high=numbers.get("ci_high", nan),
        n=n,
        excluded=excluded,
        p=numbers.get("p", nan),
        q=nan,
    )


def _null_p(psi: Floats, null: Floats, draws: int, rng: np.random.Generator, people: People | None) -> Floats:
    """Does the counterfactual move a head further than a random direction of the same length?

    Exchange test on the mean difference; 1 where the control moves it as far or further. The difference of |mean| is no
    statistic for it: where the control hardly moves a head, that rejects twice as often as it says.
    """
    null = np.where(np.isfinite(null), null, 0.0)
    apart = psi - null
    p = exchange_p(apart.sum(axis=0), exchanged_sums(apart, draws=draws, rng=rng, people=people))
    return np.where(np.abs(psi.sum(axis=0)) > np.abs(null.sum(axis=0)), p, 1.0)


def _psi_logit(row: Row, heads: Sequence[str], logit_scale: Mapping[str, float]) -> Floats:
    """Mean relative change on standardised logits; NaN where a score leaves [0, 1] or a scale is missing."""
    scale = np.array([logit_scale.get(h, np.nan) for h in heads])
    base_scale = logit_scale.get(row.base, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        change = (_logit(row.after[:]) - _logit(row.before[:])) / scale
        base_change = (_logit(row.base_after) - _logit(row.base_before)) / base_scale
        psi: Floats = (change / base_change[:, None]).mean(axis=0)
    return psi


def _logit(score: Floats) -> Floats:
    """Logit of probabilities, bounded at 36 where float64 ends; NaN outside [0, 1]."""
    with np.errstate(invalid="ignore"):
        inside = (score >= 0) & (score <= 1)
        return np.where(inside, np.clip(logit(np.clip(score, 0, 1)), -36.0, 36.0), np.nan)
