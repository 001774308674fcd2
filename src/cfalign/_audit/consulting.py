"""An audit of a bank: the audited heads score the images that it keeps. No decoder runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from cfalign._audit.bank import COLUMNS, Bank
from cfalign._audit.chunk import pixels
from cfalign._audit.chunk_work import refuse_broken
from cfalign._audit.measurement import on_the_way
from cfalign._heads.panel import Panel
from cfalign._heads.scoring import respond
from cfalign._models.guard import device_of
from cfalign._results import Floats, Outcome
from cfalign._runs.codec import read_parquet, write_parquet
from cfalign._runs.columns import Column
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run
from cfalign.engines import Engine

ENDS = {Column.NULL: "distance", Column.OFF_NULL: "off_distance"}
"""How far the ends are that controls stand beside; the bank keeps the control of the further one."""


@dataclass(frozen=True)
class Consultation:
    """What scoring every shard of a bank needs."""

    bank: Bank
    audited: Panel
    path: Path
    """Of the run."""
    batch: int

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return device_of(self.audited.classifiers[0])


def consult(bank: Bank, audited: Panel, run: Run, *, batch: int, engine: Engine, progress: Progress = silent) -> None:
    """Score the audited heads on the images of every shard of the bank, and write shards that hold both."""
    site = Consultation(bank, audited, run.path, batch)
    shards = bank.run.shards("responses")
    mine = [shard for number, shard in enumerate(shards) if engine.part.has(number)]
    progress("responses", 0, len(mine))
    with engine.crew(site, folder=run.path) as crew:
        done, met = 0, False  # whether an image was scored: the first ones tell of broken models
        while done < len(mine) and not met:
            for _, scored in crew.each(_consult_shard, [(mine[done].name, True)]):
                met = scored
            done += 1
            progress("responses", done, len(mine))
        for _ in crew.each(_consult_shard, [(shard.name, False) for shard in mine[done:]]):
            done += 1
            progress("responses", done, len(mine))


def _consult_shard(site: Consultation, unit: tuple[str, bool]) -> bool:
    """Score one shard, unless that is done; whether it has images.

    ``unit``: its name, and whether a head that answers NaN to all of them is an error (BadModel).
    """
    name, first = unit
    bank, audited = site.bank, site.audited
    scores = read_parquet(bank.run.path / "scores" / name)
    known = scores.filter(pl.col("skipped").is_null())
    if (site.path / "responses" / name).exists():
        return len(known) > 0
    scored = _scored(bank, audited, Path(name).stem, site.batch) if len(known) else _nothing(bank, audited)
    if first:
        refuse_broken(scored["originals"], audited.labels)
    columns = {
        kind.of(label): values[:, i]
        for kind, values in (
            (Column.IMAGE, scored["originals"]),
            (Column.RECONSTRUCTION, scored[bank.start]),
        )
        for i, label in enumerate(audited.labels)
    }
    known = known.hstack(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Float64)))
    write_parquet(
        site.path / "scores" / name,
        pl.concat([known, scores.filter(pl.col("skipped").is_not_null())], how="diagonal"),
    )
    rest = bank.run.path / "ineligible" / name
    if rest.exists():
        write_parquet(site.path / "ineligible" / name, read_parquet(rest))
    responses = read_parquet(bank.run.path / "responses" / name)
    place = {image_id: i for i, image_id in enumerate(known["image_id"].to_list())}
    image = np.array([place[i] for i in responses["image_id"].to_list()], dtype=int)
    on_pairs = {**scored, Column.BEFORE: scored[bank.start][image]}
    write_parquet(site.path / "responses" / name, _extended(responses, on_pairs, audited.labels))
    return len(known) > 0


def _scored(bank: Bank, audited: Panel, name: str, batch: int) -> dict[str, Floats]:
    tensors = bank.run.tensors(bank.run.path / "tensors" / f"{name}.safetensors")
    return {k: audited.scores(respond(pixels(tensors[k]), audited.classifiers, batch=batch)) for k in bank.tensors}


def _nothing(bank: Bank, audited: Panel) -> dict[str, Floats]:
    return dict.fromkeys(bank.tensors, np.zeros((0, len(audited.labels))))


def _extended(responses: pl.DataFrame, scored: Mapping[str, Floats], labels: Sequence[str]) -> pl.DataFrame:
    """Responses with the audited heads' columns; rows without a counterfactual have only those on x0, ``before``."""
    walked = np.array([Outcome(o).walked for o in responses["outcome"].to_list()], dtype=bool)
    rows = np.arange(len(responses))
    furthest = np.fmax(*(responses[distance].to_numpy() for distance in ENDS.values()))
    columns: dict[str, Floats] = {}
    for kind, key in COLUMNS.items():
        values = np.full((len(rows), len(labels)), np.nan)
        values[: len(scored[key])] = scored[key]
        values[~walked] = np.nan
        if kind in ENDS:
            values = on_the_way(scored[Column.BEFORE], values, responses[ENDS[kind]].to_numpy(), furthest)
        columns |= {kind.of(label): values[:, i] for i, label in enumerate(labels)}
    columns |= {Column.BEFORE.of(label): scored[Column.BEFORE][:, i] for i, label in enumerate(labels)}
    return responses.hstack(pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Float64)))
