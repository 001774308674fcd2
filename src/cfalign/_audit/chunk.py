"""One measured chunk as tables and tensors: the shards of a run.

``scores``: one row per image, its scores on x and on x0, or why it was skipped; and its ``group`` where images have
groups. ``responses``: one row per examined (image, base) pair for which a counterfactual was sought. ``ineligible``:
one narrow row per examined pair that the base does not predict positive, many where there are many classes.
``tensors``, of a bank: the images themselves, in 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfalign._audit.measurement import MeasuredPairs, Pair, SeenImages
from cfalign._counterfactuals.batch import Rows
from cfalign._results import Floats, Outcome, StartsAt
from cfalign._runs.columns import GROUP, Column
from cfalign.datasets import Skipped

SCORED = (Column.BEFORE, Column.AFTER, Column.NULL, Column.OFF, Column.OFF_NULL)
"""The images of a pair on which every head is scored, in the order of the columns."""
REGION = ("region_left", "region_top", "region_width", "region_height")
"""Columns of a completed region, as shares of the sides."""
INELIGIBLE = {"image_id": pl.Categorical, "base": pl.Categorical, "base_before": pl.Float64}
"""The columns of ``ineligible``."""


@dataclass(frozen=True)
class Chunk:
    """Everything that is known of a chunk after its measurement."""

    image_ids: tuple[str, ...]
    """Of the images that could be read."""
    seen: SeenImages
    walked: Sequence[MeasuredPairs]
    """Pairs that the base predicts positive."""
    unknown: Sequence[Pair]
    """Pairs whose base score is not finite: they have no counterfactual."""
    ineligible: NDArray[np.int64]
    """Pairs that the base does not predict positive, [pair, (image, base)]."""
    ineligible_scores: Floats
    """The score of the base on x0 of each of them."""


def skipped_table(skipped: Sequence[Skipped], labels: Sequence[str]) -> pl.DataFrame:
    """Rows of ``scores`` of images that could not be read; their scores are null."""
    reasons = {"image_id": [s.image_id for s in skipped], "skipped": [s.reason for s in skipped]}
    table = pl.DataFrame(reasons, schema={"image_id": pl.String, "skipped": pl.String})
    return table.with_columns(pl.lit(None, dtype=pl.Float64).alias(name) for name in _score_columns(labels))


def score_table(
    image_ids: Sequence[str], seen: SeenImages, skipped: Sequence[Skipped], labels: Sequence[str]
) -> pl.DataFrame:
    """The rows of ``scores``: the images that could be read, then the skipped ones."""
    names = pl.DataFrame(
        {"image_id": list(image_ids), "skipped": [None] * len(image_ids)},
        schema={"image_id": pl.String, "skipped": pl.String},
    )
    values = np.concatenate([seen.image_scores, seen.reconstruction_scores], axis=1)
    table = names.hstack(pl.DataFrame(values, schema=_score_columns(labels)))
    return pl.concat([table, skipped_table(skipped, labels)]) if skipped else table


def with_groups(scores: pl.DataFrame, groups: Mapping[str, str | None] | None) -> pl.DataFrame:
    """The rows of ``scores`` with the column ``group``, null where an image stands alone; unchanged without groups."""
    if groups is None:
        return scores
    return scores.with_columns(pl.Series(GROUP, [groups[i] for i in scores["image_id"].to_list()], dtype=pl.String))


def _score_columns(labels: Sequence[str]) -> list[str]:
    return [where.of(label) for where in (Column.IMAGE, Column.RECONSTRUCTION) for label in labels]


@dataclass(frozen=True)
class ResponseColumns:
    """What the columns of ``responses`` follow from."""

    labels: Sequence[str]
    """Columns of the panel."""
    bases: Sequence[str]
    """Labels of the bases, by number."""
    own: Callable[[int, Floats], Floats]
    """(number of a base, panel scores [row, column]) → scores of that base [row]."""
    backwards: bool
    """Whether backward passes have columns; the method ``latent-shift`` takes one per counterfactual."""
    regions: bool = False
    """Whether completed regions have columns."""


def response_table(chunk: Chunk | None, columns: ResponseColumns) -> pl.DataFrame:
    """The rows of ``responses``: the pairs that were walked, pool by pool, then those whose score is not finite.

    None: no image was read.
    """
    if chunk is None:
        return _unknown_rows((), np.zeros((0, len(columns.labels))), (), columns)
    walked = [_walked_rows(w, chunk, columns) for w in chunk.walked]
    unknown = _unknown_rows(chunk.image_ids, chunk.seen.reconstruction_scores, chunk.unknown, columns)
    return pl.concat([*walked, unknown])


def ineligible_table(chunk: Chunk | None, columns: ResponseColumns) -> pl.DataFrame:
    """The rows of ``ineligible``, base by base. None: no image was read."""
    if chunk is None:
        return pl.DataFrame(schema=INELIGIBLE)
    image, base = chunk.ineligible.T
    rows = {
        "image_id": pl.Series(chunk.image_ids, dtype=pl.String)[image],
        "base": pl.Series(columns.bases, dtype=pl.String)[base],
        "base_before": chunk.ineligible_scores,
    }
    return pl.DataFrame(rows).cast(INELIGIBLE)  # type: ignore[arg-type]


def _walked_rows(walked: MeasuredPairs, chunk: Chunk, columns: ResponseColumns) -> pl.DataFrame:
    count, heads = len(walked), len(columns.labels)
    end, off = walked.counterfactual, walked.off
    before = chunk.seen.reconstruction_scores[walked.image]
    blocks = {
        Column.BEFORE: before,
        Column.AFTER: end.scores,
        Column.NULL: walked.null(end, before),
        Column.OFF: _blank(count, heads) if off is None else off.scores,
        Column.OFF_NULL: _blank(count, heads) if off is None else walked.null(off, before),
    }
    ends = end.ends
    numbers: dict[str, Floats | Rows] = {
        "lambda": ends.lambdas,
        "evaluations": ends.evaluations,
        "image_change": ends.image_change,
        "distance": ends.distances,
        "off_distance": _blank(count) if off is None else off.ends.distances,
        "off_evaluations": walked.further_evaluations,
        "backwards": ends.backwards,
        "off_backwards": walked.further_backwards,
    }
    region = _blank(count, len(REGION)) if walked.regions is None else walked.regions
    numbers |= dict(zip(REGION, region.T, strict=True))
    ids = [chunk.image_ids[i] for i in walked.image]
    return _rows(ids, walked.base, ends.outcomes, blocks, numbers, columns)


def _unknown_rows(
    image_ids: Sequence[str], scores: Floats, unknown: Sequence[Pair], columns: ResponseColumns
) -> pl.DataFrame:
    count = len(unknown)
    image, base = np.array(unknown, dtype=np.int64).reshape(-1, 2).T
    blocks = {where: _blank(count, len(columns.labels)) for where in SCORED}
    blocks[Column.BEFORE] = scores[image]
    numbers: dict[str, Floats | Rows] = {
        **{name: _blank(count) for name in ("lambda", "image_change", "distance", "off_distance", *REGION)},
        **dict.fromkeys(("evaluations", "off_evaluations", "backwards", "off_backwards"), np.zeros(count, np.int64)),
    }
    return _rows([image_ids[i] for i in image], base, [Outcome.NOT_FINITE] * count, blocks, numbers, columns)


def _rows(
    ids: Sequence[str],
    base: Rows,
    outcomes: Sequence[Outcome],
    blocks: Mapping[Column, Floats],
    numbers: Mapping[str, Floats | Rows],
    columns: ResponseColumns,
) -> pl.DataFrame:
    """Rows of ``responses`` in the order of its columns."""
    names = {"image_id": ids, "base": [columns.bases[b] for b in base], "outcome": [o.value for o in outcomes]}
    own = {f"base_{where}": _own_scores(base, blocks[where], columns) for where in (Column.BEFORE, Column.AFTER)}
    first, last = ("lambda", "evaluations", "image_change"), ("distance", "off_distance", "off_evaluations")
    counted = (*(("backwards", "off_backwards") if columns.backwards else ()), *(REGION if columns.regions else ()))
    scores = pl.DataFrame(
        np.concatenate(list(blocks.values()), axis=1),
        schema={where.of(label): pl.Float64 for where in blocks for label in columns.labels},
    )
    return pl.concat(
        [
            pl.DataFrame(names, schema=dict.fromkeys(names, pl.String)),
            pl.DataFrame({name: numbers[name] for name in first} | own),
            scores,
            pl.DataFrame({name: numbers[name] for name in (*last, *counted)}),
        ],
        how="horizontal",
    )


def _blank(*shape: int) -> Floats:
    return np.full(shape, np.nan)


def _own_scores(base: Rows, scores: Floats, columns: ResponseColumns) -> Floats:
    """The score of each row's own base, [row]."""
    found = _blank(len(base))
    for number in np.unique(base).tolist():
        rows = np.flatnonzero(base == number)
        found[rows] = columns.own(number, scores[rows])
    return found


def image_tensors(images: Tensor, chunk: Chunk) -> dict[str, Tensor]:
    """The images of a chunk in 8 bits, as files would hold them; x0 only where it is not the original."""
    start = chunk.seen.origins
    tensors = {
        "originals": images,
        **({"reconstructions": start.images} if StartsAt.of(start.residual) is StartsAt.RECONSTRUCTION else {}),
        "counterfactual.images": _joined((w.counterfactual.ends.images for w in chunk.walked), images[:0]),
        "off.images": _joined((w.off.ends.images for w in chunk.walked if w.off is not None), images[:0]),
        "off.controls": _joined((w.controls.images for w in chunk.walked if w.off is not None), images[:0]),
    }
    return {name: (value.clamp(0, 1) * 255).round().to(torch.uint8).cpu() for name, value in tensors.items()}


def _joined(parts: Iterable[Tensor], none: Tensor) -> Tensor:
    return torch.cat([*parts] or [none])


def pixels(stored: Tensor) -> Tensor:
    """Images in [0, 1] from the 8 bits that a bank keeps."""
    return stored.float() / 255
