"""The alignment matrix as a run writes it: the cells of every base, of those without a counterfactual too."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from cfalign._results import Cell, Conclusions, Outcome
from cfalign._runs.codec import schema, table_of


def matrix_table(conclusions: Conclusions) -> pl.DataFrame:
    """All cells, base by base."""
    counts = conclusions.counts
    known = table_of(conclusions.cells, Cell).partition_by("base", as_dict=True, maintain_order=True)
    heads = pl.Series(list(counts.drift), dtype=pl.String)
    bases = dict.fromkeys([*counts.outcomes, *(base for (base,) in known)])
    parts = [known[base,] if (base,) in known else _empty(base, heads, counts.exclusions[base]) for base in bases]
    return pl.concat([pl.DataFrame(schema=schema(Cell)), *parts])


def _empty(base: str, heads: pl.Series, reasons: Mapping[str, int]) -> pl.DataFrame:
    """The cells of a base of which no counterfactual counts."""
    excluded = sum(n for reason, n in reasons.items() if reason != Outcome.NOT_ELIGIBLE)
    known = {"base": pl.lit(base), "n": pl.lit(0), "excluded": pl.lit(excluded)}
    return pl.DataFrame({"downstream": heads}).select(
        pl.col("downstream") if name == "downstream" else known.get(name, pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in schema(Cell).items()
    )
