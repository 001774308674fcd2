"""What a report shows of a run's responses: controls per head, and scores along the walks behind the findings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import polars as pl

from cfalign._figures.svg import Control, Walk
from cfalign._results import Outcome
from cfalign._runs.columns import Column, raised_label
from cfalign._runs.run import Run

Region = tuple[float, float, float, float]
"""Left, top, width and height as shares of the sides."""
_NO_COUNTERFACTUAL = [o.value for o in Outcome if not o.walked]


_AT_ONCE = 8
"""Heads whose answers are read at once; bounds the memory that a run of many images takes."""


def controls(run: Run, *, heads: Sequence[str], drift: Mapping[str, float]) -> tuple[Control, ...]:
    """Per head: drift, and its mean absolute change under random steps and under the counterfactuals of other heads.

    NaN where nothing was measured.
    """
    known = set(next(run.each("responses")).columns)
    found: list[Control] = []
    for at in range(0, len(heads), _AT_ONCE):
        some = heads[at : at + _AT_ONCE]
        answers = {c for head in some for c in (Column.BEFORE.of(head), Column.AFTER.of(head), Column.NULL.of(head))}
        table = run.counterfactuals(["base", "outcome", *sorted(answers & known)])
        made = table.filter(~pl.col("outcome").is_in(_NO_COUNTERFACTUAL))
        found += [_control(made, head, drift.get(head, math.nan)) for head in some]
    return tuple(found)


def behind(run: Run, pairs: AbstractSet[tuple[str, str]]) -> pl.DataFrame:
    """The rows of ``responses`` of some images, of all bases: those of the (image_id, base) ``pairs``."""
    images = pl.Series(sorted({image_id for image_id, _ in pairs}), dtype=pl.String).implode()
    return pl.concat([shard.filter(pl.col("image_id").is_in(images)) for shard in run.each("responses")])


def _control(made: pl.DataFrame, head: str, drift: float) -> Control:
    others = made.filter(~pl.col("base").is_in([head, raised_label(head)]))
    random, response = _change(others, head, Column.NULL), _change(others, head, Column.AFTER)
    return Control(
        head=head,
        drift=drift,
        random=_mean(random),
        random_high=_quantile(random),
        response=_mean(response),
        n=len(response),
    )


def _change(table: pl.DataFrame, head: str, to: Column) -> pl.Series:
    """|change| of a head's score from x0, where it is known."""
    before, after = Column.BEFORE.of(head), to.of(head)
    if not {before, after} <= set(table.columns):
        return pl.Series([], dtype=pl.Float64)
    change = table[after].cast(pl.Float64) - table[before].cast(pl.Float64)
    return change.abs().fill_nan(None).drop_nulls()


def _mean(values: pl.Series) -> float:
    return float(values.sum()) / len(values) if len(values) else math.nan


def _quantile(values: pl.Series) -> float:
    high = values.quantile(0.95, interpolation="linear") if len(values) else None
    return math.nan if high is None else float(high)


def walks(
    curves: pl.DataFrame | None,
    responses: pl.DataFrame,
    *,
    pairs: AbstractSet[tuple[str, str]],
    heads: AbstractSet[str],
) -> dict[tuple[str, str], Walk]:
    """Per (image_id, base): the curve where one was stored, else a straight line between the two ends in
    ``responses``. ``heads``: those whose scores are given.
    """
    found: dict[tuple[str, str], Walk] = {}
    for pair in sorted(pairs):
        walk = None if curves is None else _from_curve(_of(curves, pair), *pair, heads)
        walk = walk or _from_ends(_of(responses, pair), *pair, heads)
        if walk is not None:
            found[pair] = walk
    return found


def regions(responses: pl.DataFrame, *, pairs: AbstractSet[tuple[str, str]]) -> dict[tuple[str, str], Region]:
    """The completed region of each (image_id, base) that has one."""
    columns = ("region_left", "region_top", "region_width", "region_height")
    if not set(columns) <= set(responses.columns):
        return {}
    rows = responses.filter(pl.col("image_id").is_in([image_id for image_id, _ in pairs]))
    found = {(i, b): (le, t, w, h) for i, b, le, t, w, h in rows.select("image_id", "base", *columns).iter_rows()}
    return {pair: box for pair, box in found.items() if pair in pairs and all(map(math.isfinite, box))}


def _of(table: pl.DataFrame, pair: tuple[str, str]) -> pl.DataFrame:
    return table.filter((pl.col("image_id") == pair[0]) & (pl.col("base") == pair[1]))


def _from_curve(rows: pl.DataFrame, image_id: str, base: str, heads: AbstractSet[str]) -> Walk | None:
    if len(rows) < 2 or Column.WALK.of(base) not in rows.columns:
        return None
    rows = rows.sort("step")
    own = _floats(rows[Column.WALK.of(base)])
    some = [head for head in Column.WALK.heads(rows.columns) if head in heads]
    scores = {head: _floats(rows[Column.WALK.of(head)]) for head in some}
    return Walk(image_id=image_id, base=base, base_scores=own, scores=scores)


def _from_ends(rows: pl.DataFrame, image_id: str, base: str, heads: AbstractSet[str]) -> Walk | None:
    if rows.is_empty():
        return None
    row = rows.head(1)
    ends = (*_floats(row["base_before"]), *_floats(row["base_after"]))
    if not all(map(math.isfinite, ends)):
        return None
    scores = {
        head: (*_floats(row[Column.BEFORE.of(head)]), *_floats(row[Column.AFTER.of(head)]))
        for head in Column.AFTER.heads(row.columns)
        if head in heads
    }
    return Walk(image_id=image_id, base=base, base_scores=ends, scores=scores)


def _floats(column: pl.Series) -> tuple[float, ...]:
    return tuple(math.nan if v is None else float(v) for v in column.to_list())
