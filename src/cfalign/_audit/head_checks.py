"""What a run itself says of its reference heads: how well they read their attributes, and whether a judge agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from cfalign._analysis.alignment import Row
from cfalign._analysis.statistics import People, generator, resampled_interval, resampled_sums
from cfalign._results import Floats, Followed
from cfalign._runs.columns import Column

RESAMPLES = 1000
"""Bootstrap resamples of the images."""


def followed(
    rows: Sequence[Row],
    columns: Sequence[str],
    attribute: str,
    judge: str,
    *,
    seed: int,
    people: People | None = None,
) -> Followed:
    """How far the judge follows the counterfactuals of an attribute, of both ways, with a 95 % interval over images.

    ``rows``: as ``Shards.switched`` gives them, with these ``columns``. ``judge``: a column. ``people``: the group of
    each image, over which the interval then is. NaN without counterfactuals.
    """
    pair = [columns.index(judge), columns.index(attribute)]
    mine = [row for row in rows if row.base == attribute]
    changes = [row.change[:, pair] for row in mine]
    falls = [np.sign(c[:, 1:]) * c for c in changes]  # a rise of the attribute counts as its fall
    change = np.concatenate(falls) if falls else np.zeros((0, 2))
    if not len(change):
        return Followed(judge_share=float("nan"), ci_low=float("nan"), ci_high=float("nan"), n=0)
    who = None if people is None else people[np.concatenate([row.image for row in mine])]
    rng = generator(seed, "judge", attribute)
    sums, _ = resampled_sums(change, resamples=RESAMPLES, rng=rng, people=who)
    total = change.sum(axis=0)
    low, high = resampled_interval(sums[:, :1] / sums[:, 1:], total[:1] / total[1:], who)
    return Followed(judge_share=float(total[0] / total[1]), ci_low=float(low[0]), ci_high=float(high[0]), n=len(change))


def check_heads(
    rows: Sequence[Row],
    columns: Sequence[str],
    *,
    scores: pl.DataFrame,
    attributes: Sequence[str],
    judges: Mapping[str, str],
) -> dict[str, dict[str, float]]:
    """How well the reference heads read their attributes, by attribute; NaN where undefined.

    - ``disagreement``: mean \\|judge − head\\| on x0, over the images.
    - ``entangled``: the most that another attribute moves, as its judge sees it, per unit of the head's own
      counterfactuals.
    - ``answers``: the most that the head moves in the counterfactuals of another attribute, per unit of that one's
      head.
    - ``misread``: the same of what it moves beyond its judge.

    The first and the last need a judge of the attribute. ``rows``: as ``Shards.switched`` gives them, with these
    ``columns``.
    """
    columns, rows = list(columns), [r for r in rows if len(r)]
    names = list(dict.fromkeys(r.base for r in rows))
    per_base = [_per_unit([r for r in rows if r.base == n], columns.index(n)) for n in names]
    change = np.stack(per_base) if per_base else np.zeros((0, len(columns)))
    nan = float("nan")
    found = {}
    for a in attributes:
        mine, judge = columns.index(a), columns.index(judges.get(a, a))
        others = [k for k, n in enumerate(names) if n != a]
        watched = [columns.index(judges.get(b, b)) for b in attributes if b != a]
        answers = np.abs(change[others, mine])
        beyond = np.abs(change[others, mine] - change[others, judge])
        found[a] = {
            "disagreement": _disagreement(scores, a, judges[a]) if a in judges else nan,
            "entangled": float(np.abs(change[names.index(a), watched]).max()) if a in names and watched else nan,
            "answers": float(answers.max()) if others else nan,
            "misread": float(beyond.max()) if a in judges and others else nan,
        }
    return found


def _disagreement(scores: pl.DataFrame, attribute: str, judge: str) -> float:
    gap = scores[Column.RECONSTRUCTION.of(attribute)] - scores[Column.RECONSTRUCTION.of(judge)]
    mean = gap.abs().mean()
    return mean if isinstance(mean, float) else float("nan")


def _per_unit(rows: Sequence[Row], own: int) -> Floats:
    """ΣΔ of every column per ΣΔ of the rows' own head, those that raise it counted backwards, [column]."""
    total = sum(np.sign(d[:, own].sum()) * d.sum(axis=0) for d in (r.change for r in rows))
    return np.asarray(total / total[own], dtype=np.float64)
