"""Changes of counterfactuals split by regions: gathered part by part, then shares, pictures and the file of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cfalign._analysis.statistics import generator
from cfalign._audit.pictures import save_png
from cfalign._audit.shards import people_of
from cfalign._findings import RegionShare
from cfalign._regions.masks import Regions
from cfalign._regions.split import shares
from cfalign._results import Floats
from cfalign._runs.codec import file_name, write_rows
from cfalign._runs.columns import Column
from cfalign._runs.run import FILES, Run

FOLDER = "regions"
UNNAMED = "#unnamed "


def map_of(audited: str, attribute: str) -> str:
    """The picture of the regions in which an attribute moves a head, relative to the run."""
    return f"{FOLDER}/{file_name(audited)}/{file_name(attribute)}.png"


def unnamed_label(audited: str, number: int) -> str:
    """What the walks of an unnamed feature are called among the bases."""
    return f"{audited}{UNNAMED}{number}"


def first_eligible(scores: pl.DataFrame, bases: Sequence[str], *, eligible: float, count: int) -> dict[str, list[str]]:
    """The first images that each base predicts positive, at most ``count``, in the order of ``scores``."""
    known = scores.filter(pl.col("skipped").is_null())
    ids = known["image_id"]
    columns = {base: known[Column.RECONSTRUCTION.of(base)].to_numpy() for base in bases}
    return {base: ids.gather(np.flatnonzero(x >= eligible)[:count]).to_list() for base, x in columns.items()}


@dataclass
class _Split:
    """Changes of one base's counterfactuals, part by part."""

    ids: list[str] = field(default_factory=list)
    own: list[Floats] = field(default_factory=list)
    whole: list[Floats] = field(default_factory=list)
    inside: list[Floats] = field(default_factory=list)
    rest: list[Floats] = field(default_factory=list)


@dataclass
class Splits:
    """What is known of every base so far."""

    regions: Regions
    audited: tuple[str, ...]
    attributes: tuple[str, ...]
    seed: int
    found: dict[str, _Split] = field(default_factory=dict)
    seen: dict[str, Tensor] = field(default_factory=dict)
    """Some image before any walk, and its masks."""

    def write(self, run: Run) -> None:
        """Write ``regions.csv`` and the pictures."""
        found = self.shares(run.scores())
        for (audited, attribute), picture in self.pictures(found).items():
            save_png(run, map_of(audited, attribute), picture)
        write_rows(run.path / FILES[RegionShare], found, RegionShare)

    def remember(self, images: Tensor, masks: Tensor) -> None:
        """Keep the mean of some images, and their masks, to draw regions on; the first ones count."""
        if not self.seen:
            self.seen = {"image": images.mean(dim=0).cpu(), "masks": torch.nan_to_num(masks).amax(dim=0)}

    def add(self, label: str, ids: Sequence[str], *, own: Floats, whole: Floats, inside: Floats, rest: Floats) -> None:
        """Keep the changes of some counterfactuals of a base."""
        one = self.found.setdefault(label, _Split())
        one.ids += ids
        for into, values in ((one.own, own), (one.whole, whole), (one.inside, inside), (one.rest, rest)):
            into.append(values)

    def shares(self, scores: pl.DataFrame) -> list[RegionShare]:
        """The shares of every region, head by head."""
        numbers = people_of(scores)
        person = None if numbers is None else dict(zip(scores["image_id"].to_list(), numbers.tolist(), strict=True))
        return [
            share
            for column, audited in enumerate(self.audited)
            for label, attribute in self._bases_of(audited)
            for share in self._shares(audited, column, label, attribute, person)
        ]

    def _bases_of(self, audited: str) -> Iterator[tuple[str, str]]:
        """(label of what is split, how it is called) for one audited head: its own counterfactuals come first."""
        mine = [label for label in self.found if label == audited or label in self.attributes]
        yield from ((label, label) for label in sorted(mine, key=lambda label: label != audited))
        for label in self.found:
            head, mark, number = label.rpartition(UNNAMED)
            if mark and head == audited:
                yield label, f"unnamed {number}"

    def _shares(
        self, audited: str, column: int, label: str, attribute: str, person: Mapping[str, int] | None
    ) -> list[RegionShare]:
        one = self.found[label]
        column = min(column, one.whole[0].shape[1] - 1)  # walks of a feature have its own head alone
        people = None if person is None else np.array([person[i] for i in one.ids], dtype=np.int64)
        return shares(
            audited,
            attribute,
            self.regions.names,
            own=np.concatenate(one.own),
            whole=np.concatenate(one.whole)[:, column],
            inside=np.concatenate(one.inside)[:, :, column],
            rest=np.concatenate(one.rest)[:, :, column],
            people=people,
            rng=generator(self.seed, "regions", audited, attribute),
        )

    def pictures(self, found: Sequence[RegionShare]) -> dict[tuple[str, str], Tensor]:
        """The mean image, and in red how much of what moves a head lies where; of the shares that are known."""
        if not self.seen:
            return {}
        names = list(self.regions.names)
        drawn: dict[tuple[str, str], Tensor] = {}
        for key in dict.fromkeys((s.audited, s.attribute) for s in found):
            mine = [s for s in found if (s.audited, s.attribute) == key]
            values = np.nan_to_num([s.inside for s in mine])
            if not values.any() or len(mine) != len(names):
                continue
            weights = torch.tensor(np.clip(values / max(values.max(), 1e-9), 0, 1), dtype=torch.float32)
            heat = (weights[:, None, None] * self.seen["masks"]).amax(dim=0)
            grey = self.seen["image"].mean(dim=0).expand(3, -1, -1)
            red = torch.tensor([0.70, 0.09, 0.17])[:, None, None]
            drawn[key] = grey * (1 - 0.75 * heat) + red * 0.75 * heat
        return drawn
