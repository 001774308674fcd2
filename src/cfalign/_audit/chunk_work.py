"""The two kinds of work on a chunk of images, each a function of a site and a unit: look at it, walk its pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from cfalign._audit.choosing import ExaminedPairs, examined_pairs
from cfalign._audit.chunk import (
    Chunk,
    image_tensors,
    ineligible_table,
    response_table,
    score_table,
    skipped_table,
    with_groups,
)
from cfalign._audit.measurement import Pair, SeenImages, look, walk_all
from cfalign._audit.plan import Plan
from cfalign._counterfactuals.batch import Rows
from cfalign._counterfactuals.origins import origins
from cfalign._errors import BadInput, BadModel
from cfalign._results import Floats
from cfalign._runs.codec import read_parquet, write_parquet, write_tensors
from cfalign._runs.columns import Column
from cfalign.datasets import Loaded


@dataclass
class Site:
    """What the work on every chunk needs."""

    plan: Plan
    path: Path
    """Of the run."""
    device: torch.device
    last: tuple[int, Loaded, SeenImages] | None = field(default=None, repr=False)
    """The chunk that was looked at last: a walk that follows at once does not encode it again."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "last": None}

    @cached_property
    def chunks(self) -> list[Rows]:
        """Positions of the images of every chunk in the source."""
        order, size = self.plan.order(), self.plan.options.chunk
        return [order[at : at + size] for at in range(0, len(order), size)]

    def scores(self, number: int) -> pl.DataFrame:
        """The rows of ``scores`` of a chunk that was looked at."""
        return read_parquet(self.path / "scores" / chunk_name(number))


def chunk_name(number: int) -> str:
    """The file of a chunk's shard."""
    return f"{number:05d}.parquet"


def look_at(site: Site, unit: tuple[int, bool]) -> int:
    """Encode, decode and score chunk ``number``, and write its shard of ``scores``; how many of its images were read.

    ``unit``: that number, and whether a head or decoder that answers NaN to all of it is an error (BadModel).
    """
    number, first = unit
    shard = site.path / "scores" / chunk_name(number)
    if shard.exists():
        return int(read_parquet(shard, ["skipped"])["skipped"].null_count())
    plan, labels = site.plan, site.plan.panel.labels
    loaded = read_images(site, number)
    if not len(loaded):
        write_parquet(shard, with_groups(skipped_table(loaded.skipped, labels), plan.groups))
        return 0
    images, options = loaded.images.to(site.device), plan.options
    seen = look(images, plan.panel, autoencoder=plan.autoencoder, search=options.search, batch=options.batch)
    if first:
        _refuse_broken_models(plan, seen)
    ids = [plan.source.ids[i] for i in loaded.indices]
    write_parquet(shard, with_groups(score_table(ids, seen, loaded.skipped, labels), plan.groups))
    site.last = (number, loaded, seen)
    return len(loaded)


def read_images(site: Site, number: int) -> Loaded:
    """The images of a chunk."""
    return site.plan.source.load(site.chunks[number].tolist())


def walk_chunk(site: Site, unit: tuple[int, Rows]) -> None:
    """Walk the pairs of a chunk and write its shards; that of ``responses``, the last, says that the chunk is done.

    ``unit``: the chunk's number, and how many counterfactuals each base still lacks before it.
    """
    number, remaining = unit
    plan, columns, shard = site.plan, site.plan.columns, chunk_name(number)
    ineligible, responses = (site.path / kind / shard for kind in ("ineligible", "responses"))
    scores = site.scores(number)
    known = scores.filter(pl.col("skipped").is_null())
    if not len(known):
        write_parquet(ineligible, ineligible_table(None, columns))
        write_parquet(responses, response_table(None, columns))
        return
    loaded, seen = _seen(site, number, known)
    chunk = _walked(plan, loaded, seen, examined_pairs(plan, scores, remaining))
    if plan.keep_images:
        images = loaded.images.to(site.device)
        write_tensors((site.path / "tensors" / shard).with_suffix(".safetensors"), image_tensors(images, chunk))
    write_parquet(ineligible, ineligible_table(chunk, columns))
    write_parquet(responses, response_table(chunk, columns))


def _seen(site: Site, number: int, known: pl.DataFrame) -> tuple[Loaded, SeenImages]:
    """A chunk that was looked at: still at hand, or encoded once more."""
    if site.last is not None and site.last[0] == number:
        return site.last[1:]
    plan = site.plan
    loaded = read_images(site, number)
    if [plan.source.ids[i] for i in loaded.indices] != known["image_id"].to_list():
        raise BadInput(
            f"The images of {plan.source.source!r} that can be read have changed since the run began: give another "
            "--out, or --fresh to start again."
        )
    options, labels = plan.options, plan.panel.labels
    images = loaded.images.to(site.device)
    start = origins(images, plan.autoencoder, search=options.search, batch=options.batch)
    on_images, on_start = (
        known.select(where.columns(labels)).to_numpy().astype(np.float64)
        for where in (Column.IMAGE, Column.RECONSTRUCTION)
    )
    return loaded, SeenImages(start, on_images, on_start)


def _walked(plan: Plan, loaded: Loaded, seen: SeenImages, pairs: ExaminedPairs) -> Chunk:
    """Walk the pairs that their bases predict positive."""
    ids = tuple(plan.source.ids[i] for i in loaded.indices)
    walked = walk_all(
        seen,
        _pairs(pairs.walked),
        panel=plan.panel,
        bases=plan.walks,
        image_ids=ids,
        autoencoder=plan.autoencoder,
        settings=plan.walk_settings,
    )
    ineligible = np.argwhere(pairs.ineligible.T)[:, ::-1]
    return Chunk(
        image_ids=ids,
        seen=seen,
        walked=[some if plan.keep_images else some.without_images() for some in walked],
        unknown=_pairs(pairs.unknown),
        ineligible=ineligible,
        ineligible_scores=pairs.scores[tuple(ineligible.T)],
    )


def _pairs(marked: Any) -> list[Pair]:
    """The marked (image, base) pairs of a table [image, base], base by base."""
    return [(int(image), int(base)) for base, image in np.argwhere(marked.T)]


def refuse_broken(scores: Floats, labels: Sequence[str]) -> None:
    """Raises BadModel when a head answers NaN to every one of the first images, [image, head]."""
    for column, label in enumerate(labels):
        if len(scores) and np.isnan(scores[:, column]).all():
            raise BadModel(
                f"The classifier's head {label!r} returned NaN or infinity for all of {len(scores)} images; expected "
                "finite logits: check its normalisation and weights."
            )


def _refuse_broken_models(plan: Plan, seen: SeenImages) -> None:
    refuse_broken(seen.image_scores, plan.panel.labels)
    drawn = seen.origins.drawn
    if not torch.isfinite(drawn).flatten(1).all(dim=1).any():
        raise BadModel(
            f"The autoencoder returned NaN or infinity for all of {len(drawn)} images; expected images "
            "in [0, 1]: check its weights and the range of the images it was made for."
        )
    refuse_broken(seen.reconstruction_scores, plan.panel.labels)
