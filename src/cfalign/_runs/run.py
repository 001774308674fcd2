"""A run directory, read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cfalign._errors import BadInput, RunMismatch
from cfalign._results import Cell, Effect, Finding, GroupGap
from cfalign._runs.codec import damaged, read_parquet, write_json
from cfalign._runs.columns import Column
from cfalign._runs.query import Selection, select, sql

SCHEMA = 2


class Run:
    """One audit's (or bank's) directory."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def record(self) -> dict[str, Any]:
        """The content of ``run.json``; BadInput when this is not a run directory."""
        file = self.path / "run.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadInput(f"{self.path} is not a run directory: it holds no run.json.") from None
        except (OSError, ValueError) as error:
            raise BadInput(f"{file} cannot be read: {error}.") from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            found = content.get("schema") if isinstance(content, dict) else None
            raise RunMismatch(
                f"{file} has schema version {found!r}; this cfalign reads version {SCHEMA}. Use another --out."
            )
        return content

    def shards(self, kind: str) -> list[Path]:
        """The shards of ``scores``, ``responses``, ``curves`` or ``tensors`` in order."""
        return sorted(p for p in (self.path / kind).glob("*") if not p.name.startswith("."))

    def table(self, kind: str) -> pl.DataFrame:
        """All rows of ``scores``, ``responses`` or ``curves``."""
        shards = self.shards(kind)
        if not shards:
            raise BadInput(f"{self.path} holds no {kind}: the run is empty or was stopped before its first shard.")
        return pl.concat([read_parquet(p) for p in shards], how="vertical")

    def responses(self) -> pl.DataFrame:
        """One row per (image, base)."""
        return self.table("responses")

    def scores(self) -> pl.DataFrame:
        """One row per image: scores on the image and on its reconstruction."""
        return self.table("scores")

    def matrix(self) -> pl.DataFrame:
        """The alignment matrix in long form, the columns of ``Cell``."""
        return self._csv("matrix.csv", Cell)

    def effects(self, audited: str | None = None) -> pl.DataFrame:
        """Effects of every attribute, the columns of ``Effect``, strongest first; of one audited head when named."""
        table = self._csv("effects.csv", Effect)
        return _of(table, audited).sort(pl.col("effect").abs(), descending=True, nulls_last=True)

    def gaps(self, audited: str | None = None) -> pl.DataFrame:
        """How differently an audited head answers images with an attribute and without, and through what: the columns
        of ``GroupGap``, largest gap first; of one audited head when named.
        """
        table = self._csv("gaps.csv", GroupGap).with_columns(pl.col("through").fill_null(""))
        return _of(table, audited).sort(pl.col("gap").abs(), descending=True, nulls_last=True)

    def findings(self) -> list[dict[str, Any]]:
        """The findings with their evidence, best first."""
        return self._found("findings")

    def relations(self) -> list[dict[str, Any]]:
        """What goes together but is not used, is used but does not go together, and is used one way only."""
        return self._found("relations")

    def _found(self, key: str) -> list[dict[str, Any]]:
        try:
            content = json.loads((self.path / "findings.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.path} holds no readable findings.json: the run did not end ({error}).") from error
        found: list[dict[str, Any]] = content[key]
        return found

    def top(self, base: str, downstream: str, *, k: int = 20) -> pl.DataFrame:
        """The images behind a cell: the ``k`` with the largest |ψ|, ψ undefined (null) where the base hardly moved."""
        minimum = self._min_base_change()
        rows = self.responses().filter(pl.col("base") == base)
        if rows.is_empty() or Column.AFTER.of(downstream) not in rows.columns:
            raise BadInput(f"The run has no cell ({base!r}, {downstream!r}); see `matrix.csv` for those it has.")
        change = pl.col("base_after") - pl.col("base_before")
        rows = rows.filter(change.is_not_nan())  # NaN, which polars sorts first, where there is no counterfactual
        response = pl.col(Column.AFTER.of(downstream)) - pl.col(Column.BEFORE.of(downstream))
        psi = pl.when(change.abs() >= minimum).then(response / change)
        chosen = rows.select("image_id", "outcome", "lambda", "base_before", "base_after", psi.alias("psi"))
        return chosen.sort(pl.col("psi").abs(), descending=True, nulls_last=True).head(k)

    def query(
        self,
        where: str | None = None,
        *,
        base: str | None = None,
        downstream: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """The (image, base) rows that meet a condition, in order: ``where`` is an expression over the columns of
        ``responses``, in which ``smiling`` is a score on the counterfactual, and ``before.smiling``,
        ``change.smiling``, ``psi.smiling`` and ``base_change`` are known too. See ``Selection`` for the rest.

        Undefined numbers are null. BadInput names the nearest valid names of an unknown one.
        """
        wanted = Selection(base=base, downstream=downstream, where=where, sort=sort)
        rows = select(self.responses(), wanted, min_base_change=self._min_base_change())
        return rows if limit is None else rows.head(limit)

    def sql(self, text: str) -> pl.DataFrame:
        """The answer of a SQL query over the tables ``responses`` and ``scores``; friendly names as in ``query``."""
        tables = {"responses": self.responses(), "scores": self.scores()}
        return sql(text, tables, min_base_change=self._min_base_change())

    def _min_base_change(self) -> float:
        return float(self.record()["settings"]["alignment"]["min_base_change"])

    def tensors(self, shard: Path) -> dict[str, torch.Tensor]:
        """The images that a bank keeps. BadInput when the file is damaged."""
        try:
            return load_file(shard)
        except (OSError, SafetensorError) as error:
            raise damaged(shard, error) from error

    def write_findings(self, findings: Sequence[Finding], relations: Sequence[Any] = ()) -> None:
        """Write ``findings.json``; ``relations`` are dataclasses."""
        content = {"findings": [asdict(f) for f in findings], "relations": [asdict(r) for r in relations]}
        write_json(self.path / "findings.json", content)

    def _csv(self, name: str, kind: type[Cell | Effect | GroupGap]) -> pl.DataFrame:
        file = self.path / name
        if not file.is_file():
            raise BadInput(f"{self.path} holds no {name}: the run did not end; give its command again to resume it.")
        types = {"str": pl.String, "float": pl.Float64, "int": pl.Int64}
        return pl.read_csv(file, schema={f.name: types[str(f.type)] for f in fields(kind)})


def _of(table: pl.DataFrame, audited: str | None) -> pl.DataFrame:
    """The rows of one audited head, with or without the name of its classifier before it."""
    if audited is None:
        return table
    return table.filter((pl.col("audited") == audited) | pl.col("audited").str.ends_with(f":{audited}"))
