"""Contact sheets of a bank: what a person sees of the counterfactuals of each attribute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from cfalign._audit.bank import Bank
from cfalign._audit.chunk import pixels
from cfalign._figures.plots.pixels import Pixels
from cfalign._figures.plots.switched_people import switched_people
from cfalign._results import Outcome
from cfalign._runs.codec import file_name, read_parquet, written
from cfalign._runs.columns import Column

SHOWN = 8
FOLDER = "sheets"


def write_sheets(bank: Bank, out: Path) -> list[Path]:
    """A PNG for every attribute in ``out``: the first images whose search landed, with the base's and judge's score."""
    files = []
    for attribute in bank.attributes:
        rows, notes = _rows(bank, attribute)
        if not next(iter(rows.values())):
            continue
        figure = switched_people(rows, notes, heading=f"{attribute}: base's score, judge's score")
        path = out / f"{file_name(attribute)}.png"
        with written(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
        files.append(path)
    return files


def _rows(bank: Bank, attribute: str) -> tuple[dict[str, list[Pixels]], dict[str, list[str]]]:
    judge = bank.judges.get(attribute)
    kinds = {
        "image": ("originals", Column.IMAGE),
        **({"reconstruction": (bank.start, Column.RECONSTRUCTION)} if bank.start != "originals" else {}),
        "counterfactual": ("counterfactual.images", Column.AFTER),
        "switched off": ("off.images", Column.OFF),
    }
    rows: dict[str, list[Pixels]] = {name: [] for name in kinds}
    notes: dict[str, list[str]] = {name: [] for name in kinds}
    for shard in bank.run.shards("tensors"):
        pairs = read_parquet(bank.run.path / "responses" / f"{shard.stem}.parquet")
        scores = read_parquet(bank.run.path / "scores" / f"{shard.stem}.parquet")
        known = [row for row in scores.iter_rows(named=True) if row["skipped"] is None]
        place = {row["image_id"]: i for i, row in enumerate(known)}
        tensors = bank.run.tensors(shard)
        for number, row in enumerate(pairs.iter_rows(named=True)):
            if row["base"] != attribute or not Outcome(row["outcome"]).landed:
                continue
            if len(rows["image"]) == SHOWN:
                return rows, notes
            image = place[row["image_id"]]
            for name, (tensor, column) in kinds.items():
                one = column in (Column.IMAGE, Column.RECONSTRUCTION)
                seen = known[image] if one else row
                rows[name].append(_shown(tensors[tensor][image if one else number]))
                some = [seen[column.of(head)] for head in (attribute, judge) if head is not None]
                notes[name].append(", ".join("–" if np.isnan(value) else f"{value:.2f}" for value in some))
    return rows, notes


def _shown(stored: Tensor) -> Pixels:
    """[h, w, 3] in [0, 1]."""
    image = pixels(stored).permute(1, 2, 0)
    return np.asarray(image.expand(-1, -1, 3).numpy(), dtype=np.float32)
