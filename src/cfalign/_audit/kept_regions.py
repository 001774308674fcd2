"""Where in the image effects lie, from the images that a bank keeps: no decoder runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from cfalign._audit.bank import COLUMNS, Bank
from cfalign._audit.chunk import pixels
from cfalign._audit.options import AuditOptions
from cfalign._audit.region_splits import Splits, first_eligible
from cfalign._findings import RegionShare
from cfalign._heads.panel import Panel
from cfalign._models.guard import device_of
from cfalign._regions.masks import regions_of
from cfalign._regions.split import region_scores
from cfalign._results import Floats, Outcome
from cfalign._runs.codec import read_parquet
from cfalign._runs.columns import Column
from cfalign._runs.progress import Progress
from cfalign._runs.run import FILES, Run


def split_kept(run: Run, bank: Bank, audited: Panel, options: AuditOptions, progress: Progress) -> None:
    """Split the counterfactuals of a bank's attributes by region, as the audited heads see them; in ``regions.csv``."""
    spec = options.regions.spec
    if spec is None or (run.path / FILES[RegionShare]).is_file():
        return
    splits = Splits(regions_of(spec), audited.labels, bank.attributes, options.seed)
    kept = _Kept(run, bank, audited, splits, options.batch)
    wanted = first_eligible(
        run.scores(), bank.attributes, eligible=options.search.eligible, count=options.regions.images
    )
    shards = run.shards("responses")
    progress("regions", 0, len(shards))
    for number, shard in enumerate(shards, start=1):
        kept.part(shard.stem, wanted)
        progress("regions", number, len(shards))
    splits.write(run)


@dataclass(frozen=True)
class _Kept:
    run: Run
    bank: Bank
    audited: Panel
    splits: Splits
    batch: int

    def part(self, name: str, wanted: dict[str, list[str]]) -> None:
        """Split those counterfactuals of one shard that are wanted, attribute by attribute."""
        rows = read_parquet(self.run.path / "responses" / f"{name}.parquet").with_row_index("row")
        walked = [outcome.value for outcome in Outcome if outcome.walked]
        rows = rows.filter(pl.col("outcome").is_in(walked))
        chosen = {
            base: rows.filter(pl.col("base") == base, pl.col("image_id").is_in(ids)) for base, ids in wanted.items()
        }
        chosen = {base: some for base, some in chosen.items() if len(some)}
        if not chosen:
            return
        tensors = self.bank.run.tensors(self.bank.run.path / "tensors" / f"{name}.safetensors")
        scores = read_parquet(self.run.path / "scores" / f"{name}.parquet").filter(pl.col("skipped").is_null())
        place = {image_id: i for i, image_id in enumerate(scores["image_id"].to_list())}
        device = device_of(self.audited.classifiers[0])
        for base, some in chosen.items():
            ids = some["image_id"].to_list()
            before = pixels(tensors[self.bank.start][[place[i] for i in ids]]).to(device)
            after = pixels(tensors[COLUMNS[Column.OFF]][some["row"].to_list()]).to(device)
            masks = self.splits.regions.masks(ids, *before.shape[-2:])
            self.splits.remember(before, masks)
            scored = region_scores(before, after, masks, self.audited, batch=self.batch)
            start, end = (_scores(some, where, self.audited.labels) for where in (Column.BEFORE, Column.OFF))
            own = _scores(some, Column.OFF, [base]) - _scores(some, Column.BEFORE, [base])
            self.splits.add(
                base,
                ids,
                own=own[:, 0],
                whole=end - start,
                inside=scored.inside - start[:, None],
                rest=scored.rest - start[:, None],
            )


def _scores(rows: pl.DataFrame, where: Column, labels: list[str] | tuple[str, ...]) -> Floats:
    return rows.select(where.columns(labels)).to_numpy().astype(np.float64)
