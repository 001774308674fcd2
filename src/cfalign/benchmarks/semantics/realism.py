"""How real counterfactuals look: how much detail their changed parts have, and whether a network tells them apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cfalign._analysis.statistics import generator
from cfalign._audit.bank import Bank
from cfalign._audit.chunk import pixels
from cfalign._counterfactuals.origins import blurred
from cfalign._results import Outcome
from cfalign._runs.codec import read_parquet
from cfalign._runs.progress import Progress, silent
from cfalign.datasets import Labels, open_images
from cfalign.datasets.labels import Leftover
from cfalign.training import ClassifierTraining, train_classifier
from cfalign.training.splitting import LEAST_TRAIN

ENDS = ("counterfactual", "off")
CHANGED = 0.05
"""Change of a pixel, of 1, from which on it counts."""
MOST = 200
"""Counterfactuals of one shard that the network sees, at each end."""
TRAIN, ASKED = "train", "val"


def detail(bank: Bank) -> Mapping[tuple[str, str], float]:
    """By (attribute, end of the walk): gradient energy Σ‖∇x_λ‖² per Σ‖∇x‖² of the image, where the walk changed it.

    A pixel changed where the largest change over the channels, blurred, is above ``CHANGED``. Only searches that landed
    count.
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


def told_apart(bank: Bank, *, seed: int, progress: Progress = silent) -> float:
    """How often a small network is right that says which of a changed and an untouched image is the changed one.

    It learns from half of the images with their counterfactuals, at both ends of the walks, and is asked about the
    other half; nothing else knows it. 0.5 is chance. NaN where fewer than 64 images are there to learn from.
    """
    return recognised(*_changed_and_untouched(bank, generator(seed, "realism")), seed=seed, progress=progress)


def recognised(
    images: Tensor, changed: Sequence[bool], split: Sequence[str], *, seed: int, progress: Progress = silent
) -> float:
    """AUROC of a small network that learns from the ``train`` images which are changed, on the ``val`` ones."""
    learnt_from = split.count(TRAIN)
    if learnt_from < LEAST_TRAIN or len(set(changed)) < 2:
        return float("nan")
    source = open_images(images)
    nothing = Leftover(0, ())
    values = np.array(changed, dtype=np.float64)[:, None]
    labels = Labels(source.ids, ("changed",), values, tuple(split), {}, nothing, nothing, {})
    options = ClassifierTraining(
        size=images.shape[-1],
        widths=(16, 32, 64),
        residual=False,
        dropout=0.0,
        zoom=0.0,
        rotation=0.0,
        shift=0.0,
        balance=1.0,
        batch=min(64, learnt_from),
        steps=400,
        average=0.98,
        seed=seed,
    )
    with TemporaryDirectory() as folder:
        return train_classifier(source, labels, out=folder, options=options, progress=progress).auroc


def _changed_and_untouched(bank: Bank, rng: np.random.Generator) -> tuple[Tensor, list[bool], list[str]]:
    """Images [n, c, h, w], whether each is a counterfactual, and whether it is learnt from or asked about."""
    images: list[Tensor] = []
    changed: list[bool] = []
    split: list[str] = []
    for shard in bank.run.shards("tensors"):
        rows = read_parquet(bank.run.path / "responses" / f"{shard.stem}.parquet", ["image_id", "base", "outcome"])
        scores = read_parquet(bank.run.path / "scores" / f"{shard.stem}.parquet", ["image_id", "skipped"])
        place = {name: i for i, name in enumerate(scores.filter(pl.col("skipped").is_null())["image_id"].to_list())}
        tensors = bank.run.tensors(shard)
        learnt = rng.random(len(place)) < 0.5
        numbers = [i for mine in _by_base(rows, len(tensors["off.images"])).values() for i in mine]
        numbers = rng.permutation(numbers)[:MOST].tolist()
        owners = [place[rows["image_id"][i]] for i in numbers]
        for end in ENDS:
            images.append(tensors[f"{end}.images"][numbers])
            changed += [True] * len(numbers)
            split += [TRAIN if learnt[i] else ASKED for i in owners]
        walked = sorted(set(owners))
        images.append(tensors["originals"][walked])
        changed += [False] * len(walked)
        split += [TRAIN if learnt[i] else ASKED for i in walked]
    return pixels(torch.cat(images)), changed, split
