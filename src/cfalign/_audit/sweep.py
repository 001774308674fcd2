"""One pass over the images, chunk by chunk, resumable: what an audit and a bank have in common.

A chunk is one unit of work and one shard. The images come in an order drawn by the seed, and a base takes the first
``limit`` of them that it predicts positive, so what a chunk does follows from the shards before it and from nothing
else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfalign._analysis.statistics import generator
from cfalign._audit.measurement import Base, Point, Seen, Walked, WalkSettings, examined, look, walk_all
from cfalign._audit.options import AuditOptions
from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import complement
from cfalign._heads.panel import Panel
from cfalign._models.guard import device_of
from cfalign._results import Floats, Outcome
from cfalign._runs.codec import read_parquet, write_parquet, write_tensors
from cfalign._runs.columns import Column, attribute_of, raised_label
from cfalign._runs.progress import Progress, in_order, silent
from cfalign._runs.run import Run
from cfalign._types import Autoencoder
from cfalign.datasets import ImageSource, Loaded


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

    def __post_init__(self) -> None:
        taken = {raised_label(a) for a in self.attributes} & set(self.panel.labels)
        if taken and self.options.both_ways:
            name = min(taken)
            raise BadInput(
                f"A head is called {name!r}, as the counterfactuals that raise {attribute_of(name)!r} are: "
                "rename that target, or lower attributes only (both_ways = false)."
            )

    @property
    def walks(self) -> tuple[Base, ...]:
        """The bases, then the raised attributes."""
        lowered = [Base(b, self.panel[b], "both" if b in self.attributes else "drop") for b in self.bases]
        able = [a for a in self.attributes if self.panel[a].is_head or self.panel[a].on == "logit"]
        raised = [Base(raised_label(a), complement(self.panel[a]), "off") for a in able]
        return (*lowered, *(raised if self.options.both_ways else ()))

    def settings(self) -> dict[str, Any]:
        """The settings part of ``run.json``."""
        return {"bases": list(self.bases), "heads": list(self.panel.labels), **asdict(self.options)}


def sweep(plan: Plan, run: Run, *, progress: Progress = silent) -> None:
    """Measure every chunk that has no shard yet. BadInput when not one image can be read."""
    count = len(plan.source.ids)
    order = generator(plan.options.seed, "order").permutation(count)
    chunks = [order[at : at + plan.options.chunk] for at in range(0, count, plan.options.chunk)]
    remaining = np.full(len(plan.walks), plan.options.limit)

    def work(unit: tuple[int, NDArray[np.int64]]) -> NDArray[np.int64]:
        number, indices = unit
        shard = run.path / "responses" / f"{number:05d}.parquet"
        if not shard.exists():
            _measure(plan, run, number, plan.source.load(indices.tolist()), remaining)
        return _eligible_counts(plan, read_parquet(shard, ["base", "base_before"]))

    for used in in_order(list(enumerate(chunks)), work, stage="counterfactuals", progress=progress):
        remaining = np.maximum(remaining - used, 0)
        if not remaining.any():
            progress("counterfactuals", len(chunks), len(chunks))
            break
    scores = run.scores()
    if scores["skipped"].null_count() == 0:
        image_id, reason = scores.select("image_id", "skipped").sort("image_id").row(0)
        raise BadInput(
            f"None of the {count} images in {plan.source.source!r} can be read, e.g. {image_id}: {reason}; expected "
            "image files such as PNG or JPEG."
        )


def _eligible_counts(plan: Plan, rows: pl.DataFrame) -> NDArray[np.int64]:
    """Images that count towards the limit of each base, by the same rule as within a chunk."""
    before = rows["base_before"]
    eligible = rows.filter((before >= plan.options.search.eligible) & before.is_not_nan())["base"].to_list()
    return np.array([eligible.count(base.label) for base in plan.walks], dtype=np.int64)


def refuse_broken(scores: Floats, labels: Sequence[str]) -> None:
    """BadModel when a head answers NaN to every one of the first images, [image, head]: it would to all others too."""
    for column, label in enumerate(labels):
        if len(scores) and np.isnan(scores[:, column]).all():
            raise BadModel(
                f"The classifier's head {label!r} returned NaN or infinity for all of {len(scores)} images; expected "
                "finite logits: check its normalisation and weights."
            )


def _measure(plan: Plan, run: Run, number: int, loaded: Loaded, remaining: NDArray[np.int64]) -> None:
    ids = [plan.source.ids[i] for i in loaded.indices]
    skipped = pl.DataFrame(
        {"image_id": [s.image_id for s in loaded.skipped], "skipped": [s.reason for s in loaded.skipped]},
        schema={"image_id": pl.String, "skipped": pl.String},
    )
    name = f"{number:05d}"
    if not ids:
        write_parquet(run.path / "scores" / f"{name}.parquet", _with_columns(skipped, _score_columns(plan)))
        write_parquet(run.path / "responses" / f"{name}.parquet", _responses(plan, ids, None, [], [], []))
        return
    images = loaded.images.to(device_of(plan.autoencoder))
    seen = look(images, plan.panel, autoencoder=plan.autoencoder, batch=plan.options.batch)
    if not run.shards("responses"):
        _refuse_broken_models(plan, seen)
    walks = plan.walks
    base_scores = np.stack([_score(plan, base, seen.reconstruction_scores) for base in walks], axis=1)
    eligible = base_scores >= plan.options.search.eligible
    looked_at = examined(eligible, remaining.tolist())
    chosen = [(int(i), int(b)) for b, i in np.argwhere((looked_at & eligible).T)]
    others = [(int(i), int(b)) for b, i in np.argwhere((looked_at & ~eligible).T)]
    settings = WalkSettings(
        plan.options.search, plan.options.estimate, seed=plan.options.seed, batch=plan.options.batch
    )  # fmt: skip
    walked = walk_all(
        seen,
        chosen,
        panel=plan.panel,
        bases=walks,
        image_ids=ids,
        autoencoder=plan.autoencoder,
        settings=settings,
    )
    pools = list(walked) if plan.keep_images else [_without_images(w) for w in walked]
    if plan.keep_images:
        write_tensors(run.path / "tensors" / f"{name}.safetensors", _tensors(images, seen, pools))
    scores = _scores(plan, ids, seen)
    if len(skipped):
        scores = pl.concat([scores, _with_columns(skipped, _score_columns(plan))], how="diagonal")
    write_parquet(run.path / "scores" / f"{name}.parquet", scores)
    other_outcomes = [Outcome.NOT_ELIGIBLE if np.isfinite(base_scores[p]) else Outcome.NOT_FINITE for p in others]
    write_parquet(
        run.path / "responses" / f"{name}.parquet", _responses(plan, ids, seen, pools, others, other_outcomes)
    )


def _score(plan: Plan, base: Base, scores: Floats) -> Floats:
    """Scores of a base from those of the panel [..., column]."""
    if base.label in plan.panel.labels:
        return np.asarray(scores[..., plan.panel.labels.index(base.label)])
    return np.asarray(1 - scores[..., plan.panel.labels.index(attribute_of(base.label))])


def _refuse_broken_models(plan: Plan, seen: Seen) -> None:
    refuse_broken(seen.image_scores, plan.panel.labels)
    if not torch.isfinite(seen.reconstructions).flatten(1).all(dim=1).any():
        raise BadModel(
            f"The autoencoder returned NaN or infinity for all of {len(seen.reconstructions)} images; expected images "
            "in [0, 1]: check its weights and the range of the images it was made for."
        )
    refuse_broken(seen.reconstruction_scores, plan.panel.labels)


def _without_images(walked: Walked) -> Walked:
    off = None if walked.off is None else _bare(walked.off)
    return replace(walked, counterfactual=_bare(walked.counterfactual), off=off)


def _bare(point: Point) -> Point:
    return replace(point, images=torch.zeros(0), controls=torch.zeros(0))


def _tensors(images: Tensor, seen: Seen, pools: Sequence[Walked]) -> dict[str, Tensor]:
    """The images of a chunk in 8 bits, as files would hold them."""
    none = images[:0]
    parts = {
        "originals": images,
        "reconstructions": seen.reconstructions,
    }
    points = {"counterfactual": [w.counterfactual for w in pools], "off": [w.off for w in pools if w.off is not None]}
    for name, some in points.items():
        parts[f"{name}.images"] = torch.cat([p.images for p in some] or [none])
        parts[f"{name}.controls"] = torch.cat([p.controls for p in some] or [none])
    return {key: (value.clamp(0, 1) * 255).round().to(torch.uint8).cpu() for key, value in parts.items()}


def pixels(stored: Tensor) -> Tensor:
    """Images in [0, 1] from the 8 bits that a bank keeps."""
    return stored.float() / 255


def _score_columns(plan: Plan) -> list[str]:
    return [where.of(label) for where in (Column.IMAGE, Column.RECONSTRUCTION) for label in plan.panel.labels]


def _with_columns(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    return frame.with_columns([pl.lit(None, dtype=pl.Float64).alias(name) for name in names])


def _scores(plan: Plan, ids: Sequence[str], seen: Seen) -> pl.DataFrame:
    values = np.concatenate([seen.image_scores, seen.reconstruction_scores], axis=1)
    frame = pl.DataFrame({"image_id": list(ids), "skipped": pl.Series([None] * len(ids), dtype=pl.String)})
    return frame.hstack(pl.DataFrame(values, schema=_score_columns(plan)))


def _responses(
    plan: Plan,
    ids: Sequence[str],
    seen: Seen | None,
    pools: Sequence[Walked],
    others: Sequence[tuple[int, int]],
    other_outcomes: Sequence[Outcome],
) -> pl.DataFrame:
    """One row per (image, base) examined: those that walked, in order of the pools, then the others."""
    labels = plan.panel.labels
    nothing = np.full((len(others), len(labels)), np.nan)
    blank = np.full(len(others), np.nan)
    image = np.concatenate([*(w.image for w in pools), np.array([i for i, _ in others], dtype=np.int64)]).astype(int)
    base = np.concatenate([*(w.base for w in pools), np.array([b for _, b in others], dtype=np.int64)]).astype(int)
    walks = plan.walks
    before = np.zeros((0, len(labels))) if seen is None else seen.reconstruction_scores[image]
    after = np.concatenate([*(w.counterfactual.scores for w in pools), nothing])
    missing = [np.full((len(w), len(labels)), np.nan) for w in pools]
    none = [np.full(len(w), np.nan) for w in pools]
    own = np.full((2, len(image)), np.nan)
    for number, walk in enumerate(walks):
        rows = np.flatnonzero(base == number)
        own[:, rows] = [_score(plan, walk, scores[rows]) for scores in (before, after)]
    frame = pl.DataFrame(
        {
            "image_id": pl.Series([ids[i] for i in image], dtype=pl.String),
            "base": pl.Series([walks[b].label for b in base], dtype=pl.String),
            "outcome": pl.Series(
                [o.value for o in chain(*(w.outcomes for w in pools), other_outcomes)], dtype=pl.String
            ),
            "lambda": np.concatenate([*(w.lambdas for w in pools), blank]),
            "evaluations": np.concatenate([*(w.evaluations for w in pools), np.zeros(len(others), dtype=np.int64)]),
            "image_change": np.concatenate([*(w.image_change for w in pools), blank]),
            "base_before": own[0],
            "base_after": own[1],
        }
    )
    off = [w.off for w in pools]
    blocks: list[tuple[Column, Floats]] = [
        (Column.BEFORE, before),
        (Column.AFTER, after),
        (Column.NULL, np.concatenate([*(w.counterfactual.control_scores for w in pools), nothing])),
        (
            Column.OFF,
            np.concatenate([*(p.scores if p else m for p, m in zip(off, missing, strict=True)), nothing]),
        ),
        (
            Column.OFF_NULL,
            np.concatenate([*(p.control_scores if p else m for p, m in zip(off, missing, strict=True)), nothing]),
        ),
    ]
    scores = pl.DataFrame(
        np.concatenate([values for _, values in blocks], axis=1),
        schema={where.of(label): pl.Float64 for where, _ in blocks for label in labels},
    )
    blank_counts = np.zeros(len(others), dtype=np.int64)
    steps = np.concatenate([*(w.off_evaluations for w in pools), blank_counts])
    backwards = {}
    if plan.options.search.method != "latent-shift":  # which takes one per counterfactual, and none for "off"
        backwards["backwards"] = np.concatenate([*(w.backwards for w in pools), blank_counts])
        backwards["off_backwards"] = np.concatenate([*(w.off_backwards for w in pools), blank_counts])
    return frame.hstack(scores).with_columns(
        pl.Series("distance", np.concatenate([*(w.counterfactual.distances for w in pools), blank])),
        pl.Series(
            "off_distance", np.concatenate([*(p.distances if p else n for p, n in zip(off, none, strict=True)), blank])
        ),
        pl.Series("off_evaluations", steps),
        *(pl.Series(name, counts) for name, counts in backwards.items()),
    )
