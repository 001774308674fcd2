"""The runs that are explored, each read once."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from cfalign._audit.remade import AtHand, Pair, remade
from cfalign._errors import BadInput, nearest
from cfalign._figures.svg import Walk
from cfalign._findings import Finding, Standing, UnnamedFeature
from cfalign._results import Cell, Effect, Floats, JointEffect
from cfalign._runs.behind import behind_images
from cfalign._runs.codec import built
from cfalign._runs.run import Run
from cfalign.report.evidence import walks

Frames = NDArray[np.uint8]
"""[step, height, width, channel]."""
Fetch = Callable[[], AtHand]
"""Opens the images and models of a run."""
_STRIPS = 64
"""Strips that are kept in memory."""
_CELLS = 8
"""Tables of cells that are kept in memory."""


@dataclass(frozen=True)
class Remade:
    """A walk of the run made again: an image and the scores of all heads at every step."""

    frames: Frames
    heads: tuple[str, ...]
    scores: Floats
    """[step, head]"""
    lambdas: Floats


class NoSuchRun(BadInput):
    """The shelf has no run of this key."""


class Shelved:
    """A finished run on the shelf, with its images and models where they are at hand."""

    def __init__(self, key: str, run: Run, fetch: Fetch | None = None) -> None:
        run.finished()
        self.key, self.run, self._fetch = key, run, fetch
        self.computing = Lock()
        self._strips: OrderedDict[Pair, Remade] = OrderedDict()
        self._cells: OrderedDict[tuple[str, str], pl.DataFrame] = OrderedDict()

    @cached_property
    def record(self) -> dict[str, Any]:
        """The content of ``run.json``."""
        return self.run.finished()

    @property
    def path(self) -> Path:
        """The folder of the run."""
        return self.run.path

    @property
    def live(self) -> bool:
        """Whether counterfactuals can be made here."""
        return self._fetch is not None

    @cached_property
    def at_hand(self) -> AtHand:
        """The images and models of the run, opened when they are first needed."""
        return AtHand() if self._fetch is None else self._fetch()

    @cached_property
    def heads(self) -> tuple[str, ...]:
        """All heads of the run but those of a judge."""
        return tuple(self.record["heads"])

    @cached_property
    def audited(self) -> tuple[str, ...]:
        """The audited heads."""
        return tuple(self.record["audited"])

    @cached_property
    def standings(self) -> Mapping[str, Standing]:
        """What the effects of each audited head rest on."""
        return {head: built(Standing, one) for head, one in self.record.get("standings", {}).items()}

    @cached_property
    def cells(self) -> Mapping[tuple[str, str], Cell]:
        """The alignment matrix by (base, downstream)."""
        return {(cell.base, cell.downstream): cell for cell in self.run.cells()}

    @cached_property
    def effects(self) -> tuple[Effect, ...]:
        """All effects."""
        return self.run.rows(Effect)

    @cached_property
    def joint(self) -> tuple[JointEffect, ...]:
        """All joint effects."""
        return self.run.joint()

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """The findings by rank."""
        return self.run.found().findings

    @cached_property
    def unnamed(self) -> tuple[UnnamedFeature, ...]:
        """The unnamed features that count."""
        return tuple(feature for feature in self.run.unnamed() if feature.found)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The positions of images in the source at hand."""
        source = self.at_hand.source
        return {} if source is None else {image_id: i for i, image_id in enumerate(source.ids)}

    def behind(self, base: str, head: str) -> pl.DataFrame:
        """The counterfactuals behind a cell, see ``Run.behind``."""
        key = (base, head)
        if key not in self._cells:
            self._cells[key] = self.run.behind(base, head)
        self._cells.move_to_end(key)
        while len(self._cells) > _CELLS:
            self._cells.popitem(last=False)
        return self._cells[key]

    def rows_of(self, image_id: str) -> pl.DataFrame:
        """The rows of an image, one per base."""
        return behind_images(self.run.shards("responses"), [image_id])

    def walk(self, pair: Pair, rows: pl.DataFrame) -> Walk | None:
        """The scores along a walk: the curve where the run kept one, else its two ends of the image's ``rows``."""
        curves = self.run.table("curves") if self.run.shards("curves") else None
        return walks(curves, rows, pairs={pair}, heads=frozenset(self.heads)).get(pair)

    def remade(self, pair: Pair) -> Remade:
        """The walk of a pair, made again with the models at hand. Raises BadInput where that is impossible."""
        with self.computing:
            if pair not in self._strips:
                self._strips[pair] = self._made(pair)
            self._strips.move_to_end(pair)
            while len(self._strips) > _STRIPS:
                self._strips.popitem(last=False)
            return self._strips[pair]

    def _made(self, pair: Pair) -> Remade:
        heads = tuple(head for head in self.heads if head != pair[1])
        strip = remade([pair], self.run, self.at_hand, heads=heads, frames=True).get(pair)
        if strip is None or strip.frames is None:
            raise BadInput(f"Image {pair[0]!r} has no counterfactual of {pair[1]!r} here.")
        return Remade(as_bytes(strip.frames), (pair[1], *heads), strip.scores, strip.lambdas)

    def original(self, image_id: str) -> Frames:
        """An image of the source at hand, [1, height, width, channel]. Raises BadInput where it is not there."""
        with self.computing:
            source = self.at_hand.source
        if source is None or image_id not in self.places:
            raise BadInput(f"Image {image_id!r} is not at hand.")
        loaded = source.load([self.places[image_id]])
        if not len(loaded):
            raise BadInput(f"Image {image_id!r} cannot be read: {loaded.skipped[0].reason}.")
        return as_bytes(loaded.images)


def as_bytes(images: Tensor) -> Frames:
    """Images [n, c, h, w] in [0, 1] as bytes [n, h, w, c]."""
    found: Frames = (images.detach().cpu().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return found


class Shelf:
    """The explored runs by key: a short name for addresses."""

    def __init__(self, runs: Sequence[tuple[Run, Fetch | None]]) -> None:
        self.runs: dict[str, Shelved] = {}
        for run, fetch in runs:
            key = self._key(run)
            self.runs[key] = Shelved(key, run, fetch)

    def _key(self, run: Run) -> str:
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", run.path.resolve().name).strip("-") or "run"
        key, number = name, 2
        while key in self.runs:
            key, number = f"{name}-{number}", number + 1
        return key

    def __getitem__(self, key: str) -> Shelved:
        if key not in self.runs:
            raise NoSuchRun(f"No run {key!r} is explored here; {nearest(key, list(self.runs))}.")
        return self.runs[key]
