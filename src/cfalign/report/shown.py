"""Which heads a report shows: all of them, or where there are very many those that matter most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from cfalign._findings import Finding
from cfalign._results import ALPHA

MOST = 100
"""Heads that a report shows at most; ``matrix.csv`` and ``effects.csv`` hold all."""


def shown_heads(
    matrix: pl.DataFrame, *, heads: Sequence[str], attributes: Sequence[str], findings: Iterable[Finding]
) -> tuple[str, ...]:
    """Up to ``MOST`` of the heads, in their order.

    First the heads of findings, then the attributes, then the bases with a counterfactual that counts, then the others;
    of each group those with the largest clear \\|ψ\\| in their row or column of ``matrix``.
    """
    if len(heads) <= MOST:
        return tuple(heads)
    found = {name for f in findings for name in (f.audited, f.attribute)}
    known, made = set(attributes), set(matrix.filter(pl.col("n") > 0)["base"].to_list())
    size = _largest(matrix)

    def order(head: str) -> tuple[bool, bool, bool, float]:
        return head not in found, head not in known, head not in made, -size.get(head, 0.0)

    chosen = set(sorted(heads, key=order)[:MOST])
    return tuple(head for head in heads if head in chosen)


def _largest(matrix: pl.DataFrame) -> dict[str, float]:
    """The largest clear \\|ψ\\| of each head among the cells off the diagonal."""
    excludes_zero = (pl.col("ci_low") > 0) | (pl.col("ci_high") < 0)
    apart = pl.col("base") != pl.col("downstream")
    clear = matrix.filter(apart & (pl.col("q") < ALPHA) & excludes_zero).with_columns(size=pl.col("psi").abs())
    either = pl.concat([clear.select(pl.col(side).alias("head"), "size") for side in ("base", "downstream")])
    return dict(either.group_by("head").agg(pl.col("size").max()).iter_rows())
