"""How much detail the changed parts of counterfactuals have: a blur has less than the image had there, noise more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import polars as pl
import torch
from torch import Tensor

from cfalign._audit.bank import Bank
from cfalign._audit.chunk import pixels
from cfalign._counterfactuals.origins import blurred
from cfalign._results import Outcome
from cfalign._runs.codec import read_parquet

ENDS = ("counterfactual", "off")
CHANGED = 0.05
"""Change of a pixel, of 1, from which on it counts."""


def detail(bank: Bank) -> Mapping[tuple[str, str], float]:
    """By (attribute, end of the walk): gradient energy Σ‖∇x_λ‖² per Σ‖∇x‖² of the image, where the walk changed it.

    A pixel changed where the largest change over the channels, blurred, is above ``CHANGED``. Only searches that landed count.
    """
    sums: dict[tuple[str, str], Tensor] = defaultdict(lambda: torch.zeros(2, dtype=torch.float64))
    for shard in bank.run.shards("tensors"):
        rows = read_parquet(bank.run.path / "responses" / f"{shard.stem}.parquet", ["image_id", "base", "outcome"])
        scores = read_parquet(bank.run.path / "scores" / f"{shard.stem}.parquet", ["image_id", "skipped"])
        place = {name: i for i, name in enumerate(scores.filter(pl.col("skipped").is_null())["image_id"].to_list())}
        tensors = bank.run.tensors(shard)
        for end in ENDS:
            images = tensors[f"{end}.images"]
            for base, numbers in _by_base(rows, len(images)).items():
                mine = [place[rows["image_id"][i]] for i in numbers]
                image, start = (pixels(tensors[name][mine]) for name in ("originals", bank.start))
                sums[base, end] += _energies(image, start, pixels(images[numbers]))
    return {key: float(after / before) if before > 0 else float("nan") for key, (before, after) in sums.items()}


def _by_base(rows: pl.DataFrame, count: int) -> dict[str, list[int]]:
    """Numbers of the landed rows of each base, among the first ``count``, which have images."""
    found: dict[str, list[int]] = defaultdict(list)
    for i, (base, outcome) in enumerate(rows.select("base", "outcome").head(count).iter_rows()):
        if Outcome(outcome).landed:
            found[base].append(i)
    return found


def _energies(image: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Gradient energy of the image and of the end of its walk, where that differs from the start, [2]."""
    changed = (blurred((end - start).abs().amax(dim=1, keepdim=True)) > CHANGED)[:, 0, :-1, :-1]
    return torch.stack([(_energy(x) * changed).sum() for x in (image, end)]).double()


def _energy(x: Tensor) -> Tensor:
    """‖∇x‖² summed over the channels, [image, h − 1, w − 1]."""
    right, down = x[..., :-1, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, :-1]
    return (right**2 + down**2).sum(dim=1)
