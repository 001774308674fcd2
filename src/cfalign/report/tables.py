"""The parquet shards of a run: controls per head, and scores along the walks behind the findings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import polars as pl

from cfalign._errors import BadInput
from cfalign._figures.svg import Control, Walk
from cfalign._runs.columns import Column, raised_label

_NO_COUNTERFACTUAL = ("not_eligible", "flat", "not_finite")


def shards(folder: Path) -> pl.DataFrame:
    """All shards of a folder as one table in the order of their names; empty where the folder is.

    Raises:
        BadInput: a shard is not parquet.
    """
    frames = []
    for path in sorted(folder.glob("*.parquet")):
        try:
            frames.append(pl.read_parquet(path))
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise BadInput(
                f"{path} cannot be read as parquet ({reason}): it is damaged; run the audit again."
            ) from error
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


def controls(responses: pl.DataFrame, *, heads: Sequence[str], drift: Mapping[str, float]) -> tuple[Control, ...]:
    """Per head: drift, and its mean absolute change under random steps and under the counterfactuals of other heads."""
    made = responses
    if "outcome" in made.columns:
        made = made.filter(~pl.col("outcome").is_in(_NO_COUNTERFACTUAL))
    return tuple(_control(made, head, drift.get(head, math.nan)) for head in heads)


def _control(made: pl.DataFrame, head: str, drift: float) -> Control:
    others = made.filter(~pl.col("base").is_in([head, raised_label(head)])) if "base" in made.columns else made
    random, response = _change(others, head, Column.NULL), _change(others, head, Column.AFTER)
    return Control(
        head=head,
        drift=drift,
        random=_mean(random),
        random_high=_quantile(random),
        response=_mean(response),
        n=len(response),
    )


def _change(table: pl.DataFrame, head: str, kind: Column) -> pl.Series:
    names = (Column.BEFORE.of(head), kind.of(head))
    if not all(n in table.columns for n in names):
        return pl.Series([], dtype=pl.Float64)
    change = (table[names[1]].cast(pl.Float64) - table[names[0]].cast(pl.Float64)).abs()
    return change.fill_nan(None).drop_nulls()


def _mean(values: pl.Series) -> float:
    return float(values.sum()) / len(values) if len(values) else math.nan


def _quantile(values: pl.Series) -> float:
    high = values.quantile(0.95, interpolation="linear") if len(values) else None
    return math.nan if high is None else float(high)


def walks(
    curves: pl.DataFrame, responses: pl.DataFrame, *, pairs: AbstractSet[tuple[str, str]]
) -> dict[tuple[str, str], Walk]:
    """Per (image_id, base): the curve where one was stored, else a straight line between the two ends in
    ``responses``.
    """
    found: dict[tuple[str, str], Walk] = {}
    for pair in sorted(pairs):
        walk = _from_curve(_of(curves, pair), pair) or _from_ends(_of(responses, pair), pair)
        if walk is not None:
            found[pair] = walk
    return found


def _of(table: pl.DataFrame, pair: tuple[str, str]) -> pl.DataFrame:
    if not {"image_id", "base"} <= set(table.columns):
        return pl.DataFrame()
    return table.filter((pl.col("image_id").cast(pl.String) == pair[0]) & (pl.col("base") == pair[1]))


def _from_curve(rows: pl.DataFrame, pair: tuple[str, str]) -> Walk | None:
    base = Column.WALK.of(pair[1])
    if rows.height < 2 or base not in rows.columns:
        return None
    rows = rows.sort("step")
    scores = {head: _floats(rows[Column.WALK.of(head)]) for head in Column.WALK.heads(rows.columns)}
    return Walk(image_id=pair[0], base=pair[1], base_scores=scores[pair[1]], scores=scores)


def _from_ends(rows: pl.DataFrame, pair: tuple[str, str]) -> Walk | None:
    if rows.height == 0 or not {"base_before", "base_after"} <= set(rows.columns):
        return None
    row = rows.head(1)
    scores = {
        head: (*_floats(row[Column.BEFORE.of(head)]), *_floats(row[Column.AFTER.of(head)]))
        for head in Column.BEFORE.heads(row.columns)
        if Column.AFTER.of(head) in row.columns
    }
    ends = (*_floats(row["base_before"]), *_floats(row["base_after"]))
    return (
        Walk(image_id=pair[0], base=pair[1], base_scores=ends, scores=scores) if all(map(math.isfinite, ends)) else None
    )


def _floats(column: pl.Series) -> tuple[float, ...]:
    return tuple(math.nan if v is None else float(v) for v in column.to_list())
