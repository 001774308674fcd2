"""The rows behind a cell or an image, read from the shards without the rest of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import polars as pl

from cfalign._errors import BadInput
from cfalign._runs.codec import damaged, read_parquet
from cfalign._runs.columns import Column

_OF_A_PAIR = ("image_id", "base", "outcome", "lambda", "base_before", "base_after")


def behind_cell(shards: Sequence[Path], base: str, downstream: str, *, min_base_change: float) -> pl.DataFrame:
    """One row per counterfactual of ``base``, in the order of the shards: ``image_id``, ``outcome``, ``lambda``,
    ``base_before``, ``base_after``, ``before`` and ``after`` of the downstream head, and ``psi``.

    ``shards``: those of ``responses``. ψ is null where the base changed by less than ``min_base_change``. Raises
    BadInput for a cell that the run does not have, and for a damaged shard.
    """
    before, after = Column.BEFORE.of(downstream), Column.AFTER.of(downstream)
    none = BadInput(f"The run has no cell ({base!r}, {downstream!r}); see `matrix.csv` for those it has.")
    if not shards or after not in _scanned(shards[:1], None, pl.lit(False)).columns:
        raise none
    table = _scanned(shards, (*_OF_A_PAIR, before, after), pl.col("base") == base)
    change = pl.col("base_after") - pl.col("base_before")
    psi = (pl.col(after) - pl.col(before)) / change
    if table.is_empty():
        raise none
    there = change.is_not_nan()  # NaN where there is no counterfactual
    return table.filter(there).select(
        *(name for name in _OF_A_PAIR if name != "base"),
        pl.col(before).alias("before"),
        pl.col(after).alias("after"),
        pl.when(change.abs() >= min_base_change).then(psi).fill_nan(None).alias("psi"),
    )


def behind_images(
    shards: Sequence[Path], image_ids: Collection[str], columns: Sequence[str] | None = None
) -> pl.DataFrame:
    """All rows of some images, one per base and image, with these ``columns``, by default all."""
    return _scanned(shards, columns, pl.col("image_id").is_in(list(image_ids)))


def _scanned(shards: Sequence[Path], columns: Sequence[str] | None, wanted: pl.Expr) -> pl.DataFrame:
    rows = pl.scan_parquet(list(shards)).with_columns(pl.col("image_id", "base", "outcome").cast(pl.String))
    try:
        return (rows if columns is None else rows.select(columns)).filter(wanted).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        for shard in shards:
            read_parquet(shard)  # names the one that is damaged
        raise damaged(shards[0].parent, error) from error
