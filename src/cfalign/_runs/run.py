"""A run directory: the one door through which its tables and conclusions are read and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cfalign._errors import BadInput, RunMismatch
from cfalign._results import Cell, Conclusions, Counts, Effect, Finding, GroupGap, Relation
from cfalign._runs.codec import (
    Misfit,
    built,
    damaged,
    plain,
    read_json,
    read_parquet,
    read_rows,
    read_table,
    write_json,
    write_rows,
)
from cfalign._runs.columns import Column
from cfalign._runs.query import Selection, select, sql

SCHEMA = 2
FILES: dict[type, str] = {Cell: "matrix.csv", Effect: "effects.csv", GroupGap: "gaps.csv"}
"""Where the rows of a kind are."""
FINDINGS = "findings.json"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Findings:
    """The content of ``findings.json``."""

    findings: tuple[Finding, ...]
    relations: tuple[Relation, ...]


class Run:
    """The directory of an audit or a bank.

    ``path``: that directory. Nothing is read before it is asked for, and every table of shards is read once.

    >>> run = cfa.Run("runs/nowhere")
    >>> run
    Run('runs/nowhere', no run yet)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._tables: dict[str, tuple[list[tuple[str, int, int]], pl.DataFrame]] = {}

    def __repr__(self) -> str:
        try:
            record = self.record()
            kind, status = record["settings"]["kind"], record["status"]
            images = record.get("images", record["data"].get("images"))
        except (BadInput, KeyError, TypeError, AttributeError):
            return f"Run({str(self.path)!r}, no run yet)"
        return f"Run({str(self.path)!r}, {kind}, {status}" + (")" if images is None else f", {images} images)")

    def record(self) -> dict[str, Any]:
        """The content of ``run.json``.

        Raises BadInput when this is not a run directory, and RunMismatch when it has another schema version.
        """
        if not self.path.is_dir():
            raise BadInput(
                f"No run directory at {self.path}: expected a folder that an audit wrote (its --out); check the path."
            )
        file = self.path / "run.json"
        if not file.is_file():
            raise BadInput(
                f"{self.path} is not a run directory: it holds no run.json; give the folder that was the audit's --out."
            )
        content = read_json(file)
        if content.get("schema") != SCHEMA:
            raise RunMismatch(
                f"{self.path} was written with schema version {content.get('schema')!r}, this cfalign reads version "
                f"{SCHEMA}: use the cfalign that wrote it, or give another --out and run the audit again."
            )
        return content

    def finished(self) -> dict[str, Any]:
        """The content of ``run.json``. Raises BadInput when the run is not complete, and as ``record`` does."""
        record = self.record()
        if record.get("status") != "complete":
            raise BadInput(
                f"The run {self.path} is not finished (its status is {record.get('status')!r}): give its command again "
                f"with --out {self.path} to resume it."
            )
        return record

    def shards(self, kind: str) -> list[Path]:
        """The shards of ``scores``, ``responses``, ``curves`` or ``tensors`` in order."""
        return sorted(p for p in (self.path / kind).glob("*") if not p.name.startswith("."))

    def table(self, kind: str) -> pl.DataFrame:
        """All rows of ``scores``, ``responses`` or ``curves``. Raises BadInput without shards and for damaged ones."""
        shards = self.shards(kind)
        if not shards:
            raise BadInput(f"{self.path} holds no {kind}: the run is empty or was stopped before its first shard.")
        state = [(p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in shards]
        known, table = self._tables.get(kind, (None, None))
        if table is None or known != state:
            table = pl.concat([read_parquet(p) for p in shards], how="vertical")
            self._tables[kind] = (state, table)
        return table

    def responses(self) -> pl.DataFrame:
        """One row per (image, base)."""
        return self.table("responses")

    def scores(self) -> pl.DataFrame:
        """One row per image: scores on the image and on its reconstruction."""
        return self.table("scores")

    def matrix(self) -> pl.DataFrame:
        """The alignment matrix in long form: the fields of ``Cell`` as columns; an undefined number is null."""
        return self._table(Cell)

    def effects(self, audited: str | None = None) -> pl.DataFrame:
        """The effect of every attribute, strongest first: the fields of ``Effect`` as columns.

        ``audited``: one audited head, with or without the name of its classifier; all by default. An undefined number
        is null and comes last.
        """
        return _of(self._table(Effect), audited).sort(
            pl.col("effect").abs(), descending=True, nulls_last=True, maintain_order=True
        )

    def gaps(self, audited: str | None = None) -> pl.DataFrame:
        """How differently an audited head answers images with an attribute and without, and through what, largest gap
        first: the fields of ``GroupGap`` as columns.

        ``audited``: one audited head, with or without the name of its classifier; all by default. An undefined number
        is null and comes last.
        """
        return _of(self._table(GroupGap), audited).sort(
            pl.col("gap").abs(), descending=True, nulls_last=True, maintain_order=True
        )

    def findings(self) -> list[dict[str, Any]]:
        """The findings with the images behind them, best first: the fields of ``Finding``; an undefined number is
        None.
        """
        return [plain(finding) for finding in self._found().findings]

    def relations(self) -> list[dict[str, Any]]:
        """Heads that are correlated but not used, used but not correlated, and used one way only: the fields of
        ``Relation``; an undefined number is None.
        """
        return [plain(relation) for relation in self._found().relations]

    def cells(self) -> list[Cell]:
        """The cells of the alignment matrix, base by base; an undefined number is NaN."""
        return list(self.rows(Cell))

    def rows(self, kind: type[Value]) -> tuple[Value, ...]:
        """All that the run holds of a kind (``Cell``, ``Effect`` or ``GroupGap``), in the order of the file.

        Raises BadInput when the run is not complete or its file is damaged.
        """
        return read_rows(self._concluded(FILES[kind]), kind)

    def conclusions(self) -> Conclusions:
        """All that the run says. Raises BadInput when it is not complete or one of its files is damaged."""
        found = self._found()
        try:
            counts: Counts = built(Counts, self.record())
        except Misfit as error:
            raise BadInput(
                f"{self.path / 'run.json'} {error}: the run is not complete, or the file was changed; give the run's "
                "command again."
            ) from error
        return Conclusions(
            cells=self.rows(Cell),
            effects=self.rows(Effect),
            gaps=self.rows(GroupGap),
            findings=found.findings,
            relations=found.relations,
            counts=counts,
        )

    def write(self, conclusions: Conclusions) -> None:
        """Write ``matrix.csv``, ``effects.csv``, ``gaps.csv`` and ``findings.json``; the counts belong into
        ``run.json``.
        """
        write_rows(self.path / FILES[Cell], conclusions.cells, Cell)
        write_rows(self.path / FILES[Effect], conclusions.effects, Effect)
        write_rows(self.path / FILES[GroupGap], conclusions.gaps, GroupGap)
        write_json(self.path / FINDINGS, plain(Findings(conclusions.findings, conclusions.relations)))

    def _table(self, kind: type) -> pl.DataFrame:
        return read_table(self._concluded(FILES[kind]), kind)

    def _concluded(self, name: str) -> Path:
        """A file that a run has when it ends."""
        file = self.path / name
        if not file.is_file():
            raise BadInput(f"{self.path} holds no {name}: the run did not end; give its command again to resume it.")
        return file

    def _found(self) -> Findings:
        file = self._concluded(FINDINGS)
        try:
            found: Findings = built(Findings, read_json(file))
        except Misfit as error:
            raise BadInput(f"{file} {error}: it was changed or damaged; run the audit again.") from error
        return found

    def top(self, base: str, downstream: str, *, k: int = 20) -> pl.DataFrame:
        """The images behind a cell: the ``k`` with the largest |ψ|; ψ is null where the base hardly changed.

        Raises BadInput for a cell that the run does not have.
        """
        minimum = self._min_base_change()
        rows = self.responses().filter(pl.col("base") == base)
        if rows.is_empty() or Column.AFTER.of(downstream) not in rows.columns:
            raise BadInput(f"The run has no cell ({base!r}, {downstream!r}); see `matrix.csv` for those it has.")
        change = pl.col("base_after") - pl.col("base_before")
        rows = rows.filter(change.is_not_nan())  # NaN where there is no counterfactual; polars sorts it first
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
        """The (image, base) rows that meet a condition, in order; an undefined number is null.

        Args:
            where: an expression over the columns of ``responses``, e.g. ``"base_change < -0.5 and smiling > 0.2"``. In
                it ``smiling`` is a score on the counterfactual; ``before.smiling``, ``change.smiling``,
                ``psi.smiling`` and ``base_change`` are known too.
            base: only rows of this base.
            downstream: only rows with a counterfactual, ordered by |ψ| of this head.
            sort: a name or expression, followed by ``asc`` or ``desc`` (the default).
            limit: at most so many rows.

        Raises BadInput for an unknown name, with the nearest valid ones, and for a condition that cannot be read.
        """
        wanted = Selection(base=base, downstream=downstream, where=where, sort=sort)
        rows = select(self.responses(), wanted, min_base_change=self._min_base_change())
        return rows if limit is None else rows.head(limit)

    def sql(self, text: str) -> pl.DataFrame:
        """The answer to a SQL query over the tables ``responses`` and ``scores``; names as in ``query``."""
        tables = {"responses": self.responses(), "scores": self.scores()}
        return sql(text, tables, min_base_change=self._min_base_change())

    def _min_base_change(self) -> float:
        return float(self.record()["settings"]["alignment"]["min_base_change"])

    def tensors(self, shard: Path) -> dict[str, torch.Tensor]:
        """The images that a bank keeps in a shard. Raises BadInput when the file is damaged."""
        try:
            return load_file(shard)
        except (OSError, SafetensorError) as error:
            raise damaged(shard, error) from error


def _of(table: pl.DataFrame, audited: str | None) -> pl.DataFrame:
    """The rows of one audited head, with or without the name of its classifier before it."""
    if audited is None:
        return table
    return table.filter((pl.col("audited") == audited) | pl.col("audited").str.ends_with(f":{audited}"))
