"""A run directory: the one door through which its tables and conclusions are read and written."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from cfalign._errors import BadInput, RunMismatch
from cfalign._findings import Finding, RegionShare, UnnamedFeature
from cfalign._results import Cell, Conclusions, Counts, Effect, GroupGap, JointEffect, Outcome, Relation, StartsAt
from cfalign._runs.behind import behind_cell
from cfalign._runs.codec import (
    Misfit,
    built,
    damaged,
    plain,
    read_json,
    read_parquet,
    read_rows,
    read_table,
    rows_of,
    write_json,
    write_rows,
    write_table,
)
from cfalign._runs.columns import Column
from cfalign._runs.matrix import matrix_table
from cfalign._runs.query import Selection, select, sql
from cfalign._runs.showing import ShownFindings, ShownRun
from cfalign._runs.unnamed import read_unnamed

SCHEMA = 2
FILES: dict[type, str] = {Cell: "matrix.csv", Effect: "effects.csv", GroupGap: "gaps.csv", JointEffect: "joint.csv"}
FILES |= {RegionShare: "regions.csv"}
"""Where the rows of a kind are."""
FINDINGS = "findings.json"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Findings:
    """The content of ``findings.json``."""

    findings: tuple[Finding, ...]
    relations: tuple[Relation, ...]


def residual_of(settings: Mapping[str, Any]) -> str:
    """What became of the residuals of images in a run of these settings; runs of older versions dropped them."""
    return str((settings.get("search") or {}).get("residual", "dropped"))


class Run(ShownRun):
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

    @property
    def start(self) -> StartsAt:
        """What x0 is, where the walks of the run start: the images themselves, or their reconstructions."""
        return StartsAt.of(residual_of(self.record()["settings"]))

    def shards(self, kind: str) -> list[Path]:
        """The shards of ``scores``, ``responses``, ``ineligible``, ``curves`` or ``tensors`` in order."""
        return sorted(p for p in (self.path / kind).glob("*") if not p.name.startswith("."))

    def table(self, kind: str) -> pl.DataFrame:
        """All rows of the shards of a kind. Raises BadInput without shards and for damaged ones."""
        state = [(p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in self.shards(kind)]
        known, table = self._tables.get(kind, (None, None))
        if table is None or known != state:
            table = pl.concat(self.each(kind), how="vertical")
            self._tables[kind] = (state, table)
        return table

    def each(self, kind: str, columns: Collection[str] | None = None) -> Iterator[pl.DataFrame]:
        """The shards of a kind, one table after the other; of which ``columns``, all by default.

        Raises BadInput without shards and for damaged ones.
        """
        shards = self.shards(kind)
        if not shards:
            raise BadInput(f"{self.path} holds no {kind}: the run is empty or was stopped before its first shard.")
        wanted = None if columns is None else list(columns)
        return (read_parquet(shard, wanted) for shard in shards)

    def counterfactuals(self, columns: Collection[str] | None = None) -> pl.DataFrame:
        """The rows of ``responses`` for which a counterfactual was sought: all but the images not eligible.

        ``columns``: only these, which takes less memory in a run of many images; all by default.
        """
        return self.table("responses") if columns is None else pl.concat(self.each("responses", columns))

    def ineligible(self) -> pl.DataFrame:
        """One narrow row per (image, base) that the base does not predict positive: its score on x0."""
        if not self.shards("ineligible"):
            return pl.DataFrame(schema={"image_id": pl.Categorical, "base": pl.Categorical, "base_before": pl.Float64})
        return self.table("ineligible")

    def pairs(self) -> pl.LazyFrame:
        """The rows of ``responses``, of which only what is asked for is made.

        >>> run = cfa.Run("runs/nowhere")
        >>> run.pairs().select("base", "outcome").collect()  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        BadInput: ...
        """
        sought = self.counterfactuals()
        ineligible = self.ineligible()
        if ineligible.is_empty():
            return sought.lazy()
        before = {Column.RECONSTRUCTION.of(h): Column.BEFORE.of(h) for h in Column.BEFORE.heads(sought.columns)}
        known = self.scores().lazy().select("image_id", *before).rename(before)
        rows = ineligible.lazy().with_columns(pl.col("image_id", "base").cast(pl.String))
        rows = rows.join(known, on="image_id", how="left", maintain_order="left").with_columns(
            outcome=pl.lit(Outcome.NOT_ELIGIBLE.value)
        )
        there = {*before.values(), "image_id", "base", "base_before", "outcome"}
        blank = {
            name: pl.lit(0 if dtype.is_integer() else float("nan"), dtype=dtype)
            for name, dtype in sought.schema.items()
            if name not in there
        }
        return pl.concat([sought.lazy(), rows.with_columns(**blank).select(sought.columns)])

    def responses(self) -> pl.DataFrame:
        """One row per (image, base). For a run of many classes this is a large table; ``pairs`` makes a part of it."""
        return self.pairs().collect()

    def scores(self) -> pl.DataFrame:
        """One row per image: scores on the image x and on x0, where its walks start."""
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
        return ShownFindings((plain(finding) for finding in self.found().findings), self.path)

    def unnamed(self, audited: str | None = None) -> tuple[UnnamedFeature, ...]:
        """The unnamed features, those of each audited head by number; empty where none were sought.

        ``audited``: of one audited head. Raises BadInput when the run is not complete or the file is damaged.
        """
        self.finished()
        return tuple(f for f in read_unnamed(self.path) if audited in (None, f.audited))

    def regions(self, audited: str | None = None) -> tuple[RegionShare, ...]:
        """How much of what an attribute does to an audited head lies in each region; empty where none were named.

        ``audited``: of one audited head. Raises BadInput when the run is not complete or the file is damaged.
        """
        self.finished()
        file = self.path / FILES[RegionShare]
        rows = read_rows(file, RegionShare) if file.is_file() else ()
        return tuple(row for row in rows if audited in (None, row.audited))

    def relations(self) -> list[dict[str, Any]]:
        """Heads that are correlated but not used, used but not correlated, and used one way only: the fields of
        ``Relation``; an undefined number is None.
        """
        return [plain(relation) for relation in self.found().relations]

    def cells(self) -> list[Cell]:
        """The cells of the alignment matrix, base by base; an undefined number is NaN."""
        return list(self.rows(Cell))

    def rows(self, kind: type[Value]) -> tuple[Value, ...]:
        """All that the run holds of a kind (``Cell``, ``Effect`` or ``GroupGap``), in the order of the file.

        Raises BadInput when the run is not complete or its file is damaged.
        """
        return read_rows(self._concluded(FILES[kind]), kind)

    def joint(self) -> tuple[JointEffect, ...]:
        """The effects of groups of attributes that cannot be told apart; none in runs of older versions."""
        return self.rows(JointEffect) if (self.path / FILES[JointEffect]).is_file() else ()

    def conclusions(self, among: Collection[str] | None = None) -> Conclusions:
        """All that the run says. Raises BadInput when it is not complete or one of its files is damaged.

        ``among``: only cells between these heads, also of bases without a counterfactual.
        """
        found = self.found()
        try:
            counts: Counts = built(Counts, self.record())
        except Misfit as error:
            raise BadInput(
                f"{self.path / 'run.json'} {error}: the run is not complete, or the file was changed; give the run's "
                "command again."
            ) from error
        return Conclusions(
            cells=self._counting() if among is None else self._cells_among(among),
            effects=self.rows(Effect),
            gaps=self.rows(GroupGap),
            findings=found.findings,
            relations=found.relations,
            counts=counts,
            joint=self.joint(),
        )

    def _counting(self) -> tuple[Cell, ...]:
        return rows_of(self._table(Cell).filter(pl.col("n") > 0), Cell)

    def _cells_among(self, heads: Collection[str]) -> tuple[Cell, ...]:
        table = self._table(Cell)
        names = pl.Series(list(heads), dtype=pl.String).implode()
        return rows_of(table.filter(pl.col("base").is_in(names), pl.col("downstream").is_in(names)), Cell)

    def write(self, conclusions: Conclusions) -> None:
        """Write ``matrix.csv``, ``effects.csv``, ``joint.csv``, ``gaps.csv`` and ``findings.json``; the counts belong
        into ``run.json``.
        """
        write_table(self.path / FILES[Cell], matrix_table(conclusions))
        write_rows(self.path / FILES[Effect], conclusions.effects, Effect)
        write_rows(self.path / FILES[JointEffect], conclusions.joint, JointEffect)
        write_rows(self.path / FILES[GroupGap], conclusions.gaps, GroupGap)
        write_json(self.path / FINDINGS, plain(Findings(conclusions.findings, conclusions.relations)))

    def _table(self, kind: type) -> pl.DataFrame:
        return read_table(self._concluded(FILES[kind]), kind)

    def _concluded(self, name: str) -> Path:
        """A file that a run has when it ends."""
        file = self.path / name
        if file.is_file():
            return file
        kind = (self.record().get("settings") or {}).get("kind", "audit")
        why = (
            "the run did not end; give its command again to resume it"
            if kind == "audit"
            else f"it is a {kind}, which concludes nothing about named attributes; give the folder of an audit"
        )
        raise BadInput(f"{self.path} holds no {name}: {why}.")

    def found(self) -> Findings:
        """Findings and relations, typed. Raises BadInput when the run is not complete or the file is damaged."""
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
        rows = self.behind(base, downstream)
        chosen = rows.select("image_id", "outcome", "lambda", "base_before", "base_after", "psi")
        return chosen.sort(pl.col("psi").abs(), descending=True, nulls_last=True, maintain_order=True).head(k)

    def behind(self, base: str, downstream: str) -> pl.DataFrame:
        """All counterfactuals behind a cell: ``image_id``, ``outcome``, ``lambda``, ``base_before``, ``base_after``,
        ``before`` and ``after`` of the downstream head, and ``psi``, null where the base hardly changed.

        Raises BadInput for a cell that the run does not have.
        """
        shards = self.shards("responses")
        return behind_cell(shards, base, downstream, min_base_change=self._min_base_change())

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
        rows = select(self.pairs(), wanted, min_base_change=self._min_base_change())
        return rows if limit is None else rows.head(limit)

    def sql(self, text: str) -> pl.DataFrame:
        """The answer to a SQL query over the tables ``responses`` and ``scores``; names as in ``query``."""
        tables = {"responses": self.pairs(), "scores": self.scores().lazy()}
        return sql(text, tables, min_base_change=self._min_base_change())

    def _min_base_change(self) -> float:
        return float(self.record()["settings"]["alignment"]["min_base_change"])

    def first_rows(self, shard: Path, name: str, count: int) -> torch.Tensor:
        """The first rows of one tensor in a shard, without reading the rest. Raises BadInput when it is damaged."""
        try:
            with safe_open(shard, framework="pt") as tensors:
                rows: torch.Tensor = tensors.get_slice(name)[:count]
                return rows
        except (OSError, SafetensorError) as error:
            raise damaged(shard, error) from error

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
