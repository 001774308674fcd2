"""One pass over the images, chunk by chunk, resumable: what an audit and a bank have in common.

A chunk is one unit of work and one shard. The images come in an order drawn by the seed, and a base takes the first
``limit`` of them that it predicts positive, so what a chunk does follows from the shards before it and from nothing
else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
import torch

from cfalign._analysis.statistics import generator
from cfalign._audit.chunk import (
    Chunk,
    ResponseColumns,
    image_tensors,
    ineligible_table,
    response_table,
    score_table,
    skipped_table,
    with_groups,
)
from cfalign._audit.measurement import Base, Pair, SeenImages, WalkSettings, examined, look, walk_all
from cfalign._audit.options import AuditOptions
from cfalign._counterfactuals.batch import Flags, Rows
from cfalign._counterfactuals.options import ON_RAYS, Method
from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import complement
from cfalign._heads.panel import Panel
from cfalign._models.guard import device_of
from cfalign._results import Floats
from cfalign._runs.codec import read_parquet, write_parquet, write_tensors
from cfalign._runs.columns import attribute_of, raised_label
from cfalign._runs.progress import Progress, in_order, silent
from cfalign._runs.run import Run
from cfalign._types import Autoencoder
from cfalign.datasets import ImageSource, Loaded
from cfalign.datasets.grouped_images import groups_of


@dataclass(frozen=True)
class Plan:
    """What a sweep does."""

    source: ImageSource
    panel: Panel
    bases: tuple[str, ...]
    """Labels of the panel that get counterfactuals."""
    attributes: tuple[str, ...]
    """Those of the bases that are walked on until switched off, and raised where they are absent, for effects."""
    autoencoder: Autoencoder
    options: AuditOptions
    keep_images: bool = False
    """Whether shards of images are written too, which makes the run a bank."""
    methods: Mapping[str, Method] = field(default_factory=dict)
    """By label of the base, where the method is ``auto``."""

    def __post_init__(self) -> None:
        taken = {raised_label(a) for a in self.attributes} & set(self.panel.labels)
        if taken and self.options.both_ways:
            name = min(taken)
            raise BadInput(
                f"A head is called {name!r}, as the counterfactuals that raise {attribute_of(name)!r} are: "
                "rename that target, or lower attributes only (both_ways = false)."
            )

    @cached_property
    def walks(self) -> tuple[Base, ...]:
        """The bases, then the raised attributes."""
        lowered = [Base(b, self.panel[b], "both" if b in self.attributes else "drop") for b in self.bases]
        able = [a for a in self.attributes if self.panel[a].sum_of_logits is not None]
        raised = [Base(raised_label(a), complement(self.panel[a]), "off") for a in able]
        return (*lowered, *(raised if self.options.both_ways else ()))

    @property
    def walk_settings(self) -> WalkSettings:
        """How the pairs of a chunk are walked."""
        options = self.options
        return WalkSettings(options.search, options.estimate, options.seed, options.batch, self.methods)

    @property
    def columns(self) -> ResponseColumns:
        """What the columns of ``responses`` follow from."""
        return ResponseColumns(
            labels=self.panel.labels,
            bases=[base.label for base in self.walks],
            own=self.score,
            backwards=self.options.search.method not in (*ON_RAYS, "auto"),
            regions=self.options.search.method in ("completion", "auto"),
        )

    @cached_property
    def groups(self) -> Mapping[str, str | None] | None:
        """The group of each image by its id; None where the source has no groups."""
        return groups_of(self.source)

    def settings(self) -> dict[str, Any]:
        """The settings part of ``run.json``."""
        return {"bases": list(self.bases), "heads": list(self.panel.labels), **asdict(self.options)}

    @cached_property
    def _own(self) -> tuple[Rows, Flags]:
        """The column of the panel that each base reads, and whether its score is what that lacks to 1, [base]."""
        place = {label: i for i, label in enumerate(self.panel.labels)}
        labels = [base.label for base in self.walks]
        columns = [place[label if label in place else attribute_of(label)] for label in labels]
        return np.array(columns, dtype=np.int64), np.array([label not in place for label in labels], dtype=bool)

    def scores(self, scores: Floats) -> Floats:
        """Scores of every base [..., base] from those of the panel [..., column]."""
        columns, raised = self._own
        found = scores[..., columns]
        return np.where(raised, 1 - found, found)

    def order(self) -> Rows:
        """Positions of all images in the source, in the order in which they are taken."""
        return np.asarray(generator(self.options.seed, "order").permutation(len(self.source.ids)), dtype=np.int64)

    def score(self, number: int, scores: Floats) -> Floats:
        """Scores of a base, by its number, from those of the panel [..., column]."""
        columns, raised = self._own
        found = np.asarray(scores[..., columns[number]])
        return 1 - found if raised[number] else found


def sweep(plan: Plan, run: Run, *, progress: Progress = silent) -> None:
    """Measure every chunk that has no shard yet. Raises BadInput when not one image can be read."""
    count, order = len(plan.source.ids), plan.order()
    chunks = [order[at : at + plan.options.chunk] for at in range(0, count, plan.options.chunk)]
    remaining = np.full(len(plan.walks), plan.options.limit)
    met = False  # whether an image was read: the first ones tell of broken models

    def work(unit: tuple[int, Rows]) -> Rows:
        nonlocal met
        number, indices = unit
        shard = run.path / "responses" / f"{number:05d}.parquet"
        if not shard.exists():
            loaded = plan.source.load(indices.tolist())
            _measure(plan, run, shard.name, loaded, remaining, first=not met)
        met = met or read_parquet(run.path / "scores" / shard.name, ["skipped"])["skipped"].null_count() > 0
        return _eligible_counts(plan, read_parquet(shard, ["base", "base_before"]))

    for used in in_order(list(enumerate(chunks)), work, stage="counterfactuals", progress=progress):
        remaining = np.maximum(remaining - used, 0)
        if not remaining.any():
            progress("counterfactuals", len(chunks), len(chunks))
            break
    if not met:
        image_id, reason = run.scores().select("image_id", "skipped").sort("image_id").row(0)
        raise BadInput(
            f"None of the {count} images in {plan.source.source!r} can be read, e.g. {image_id}: {reason}; expected "
            "image files such as PNG or JPEG."
        )


def _eligible_counts(plan: Plan, rows: pl.DataFrame) -> Rows:
    """Images that count towards the limit of each base, by the same rule as within a chunk."""
    before = rows["base_before"]
    eligible = rows.filter((before >= plan.options.search.eligible) & before.is_not_nan())["base"]
    counts = Counter(eligible.to_list())
    return np.array([counts[base.label] for base in plan.walks], dtype=np.int64)


def _measure(plan: Plan, run: Run, shard: str, loaded: Loaded, remaining: Rows, *, first: bool) -> None:
    """Measure a chunk and write its shards; that of ``responses``, the last, says that the chunk is done."""
    labels, columns = plan.panel.labels, plan.columns
    scores, ineligible, responses = (run.path / kind / shard for kind in ("scores", "ineligible", "responses"))
    if not len(loaded):
        write_parquet(scores, with_groups(skipped_table(loaded.skipped, labels), plan.groups))
        write_parquet(ineligible, ineligible_table(None, columns))
        write_parquet(responses, response_table(None, columns))
        return
    images = loaded.images.to(device_of(plan.autoencoder))
    options = plan.options
    seen = look(images, plan.panel, autoencoder=plan.autoencoder, search=options.search, batch=options.batch)
    if first:
        _refuse_broken_models(plan, seen)
    chunk = _walked(plan, loaded, seen, remaining)
    if plan.keep_images:
        write_tensors((run.path / "tensors" / shard).with_suffix(".safetensors"), image_tensors(images, chunk))
    write_parquet(scores, with_groups(score_table(chunk, labels), plan.groups))
    write_parquet(ineligible, ineligible_table(chunk, columns))
    write_parquet(responses, response_table(chunk, columns))


def _walked(plan: Plan, loaded: Loaded, seen: SeenImages, remaining: Rows) -> Chunk:
    """Choose the pairs of every base, in the order of the images, and walk those that it predicts positive."""
    ids = tuple(plan.source.ids[i] for i in loaded.indices)
    scores = plan.scores(seen.reconstruction_scores)
    eligible = scores >= plan.options.search.eligible
    looked_at = examined(eligible, remaining.tolist())
    walked = walk_all(
        seen,
        _pairs(looked_at & eligible),
        panel=plan.panel,
        bases=plan.walks,
        image_ids=ids,
        autoencoder=plan.autoencoder,
        settings=plan.walk_settings,
    )
    others = looked_at & ~eligible
    known = np.isfinite(scores)
    ineligible = np.argwhere((others & known).T)[:, ::-1]
    return Chunk(
        image_ids=ids,
        skipped=loaded.skipped,
        seen=seen,
        walked=[pairs if plan.keep_images else pairs.without_images() for pairs in walked],
        unknown=_pairs(others & ~known),
        ineligible=ineligible,
        ineligible_scores=scores[tuple(ineligible.T)],
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
