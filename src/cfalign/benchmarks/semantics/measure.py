"""The run of the benchmark: a bank of counterfactuals with a judge beside it, and what the judge answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from cfalign import autoencoders, classifiers
from cfalign._analysis.alignment import Row, usable
from cfalign._analysis.statistics import bootstrap_counts, generator, percentile_interval
from cfalign._audit.bank import Bank, bank
from cfalign._audit.options import AuditOptions
from cfalign._audit.shards import Shards
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign._results import Floats
from cfalign._runs.columns import Column
from cfalign._runs.progress import Progress, ShowProgress, silent, told_to, with_bars
from cfalign._types import Autoencoder
from cfalign.benchmarks.semantics.realism import detail, told_apart
from cfalign.benchmarks.semantics.result import AttributeSemantics, JudgedEnd, Semantics
from cfalign.synthetic import DERIVED, INTERVENABLE, render, sample

RESAMPLES = 1000


@with_bars
def embedded_semantics(*, options: AuditOptions | None = None, progress: ShowProgress = None) -> Semantics:
    """Judge the counterfactuals of every embedded head of a single factor by the embedded oracle.

    They start from faces with independent attributes that no model was trained on. ``options``: as of ``semantics``;
    the most counterfactuals per head are 100 by default.
    """
    progress = told_to(progress)
    options = options or AuditOptions(limit=100)
    reference = classifiers.load("embedded")
    factors = [name for name in reference.targets if name in INTERVENABLE and name not in DERIVED]
    with TemporaryDirectory() as folder:
        return semantics(
            render(sample(6 * options.limit, seed=options.seed + 10_000)),
            Reference(reference, classifiers.load("embedded:oracle")),
            autoencoder=autoencoders.load("embedded"),
            out=folder,
            attributes=factors,
            options=options,
            progress=progress,
        )


@with_bars
def semantics(
    images: Any,
    reference: Reference,
    *,
    autoencoder: Autoencoder,
    out: str | Path,
    attributes: Sequence[str] | None = None,
    options: AuditOptions | None = None,
    progress: ShowProgress = None,
) -> Semantics:
    """How far does a judge follow the counterfactuals of reference heads, on images of anybody?

    Args:
        images: as ``audit`` takes them, of people that no model was trained on.
        reference: heads with a judge of the same attributes: another seed and, better, another architecture.
        autoencoder: any object with ``encode`` and ``decode``.
        out: folder of the bank of counterfactuals; a stopped benchmark goes on.
        attributes: heads that get counterfactuals; by default all that the judge knows.
        options: the search, the most counterfactuals per head (``limit``) and the seed.
        progress: True shows bars; a function is called with (stage, done, total).

    Raises BadInput without a judge, and as ``bank`` does.
    """
    progress = told_to(progress)
    if reference.judge is None:
        raise BadInput("The benchmark needs a judge: independently trained heads of the same attributes (--judge).")
    known = [target for target in reference.classifier.targets if target in reference.judge.targets]
    options = replace(options or AuditOptions(), both_ways=False)
    made = bank(
        images,
        reference,
        autoencoder=autoencoder,
        out=out,
        attributes=known if attributes is None else attributes,
        options=options,
        progress=progress,
    )
    return read(made, options, progress=progress)


def read(made: Bank, options: AuditOptions, *, progress: Progress = silent) -> Semantics:
    """What the judge says of a bank."""
    judges, shards, details = made.judges, Shards.of(made.run), detail(made)
    without = [a for a in made.attributes if a not in judges]
    if without:
        raise BadInput(f"The judge does not know {without[0]!r}; leave it out (--attributes).")
    columns = list(judges.values())
    least = options.alignment.min_base_change
    found = []
    for attribute in made.attributes:
        row = shards.row(attribute, columns)
        (off,) = shards.switched([attribute], columns, options=options)
        landed = np.array([outcome.landed for outcome in row.outcomes], dtype=bool)
        own = judges[attribute]
        drop = _followed(usable(row.where(landed), min_base_change=least)[0], columns, own, options.seed)
        on_images = shards.scores.filter(pl.col("image_id").is_in([shards.ids[i] for i in row.image]))
        found.append(
            AttributeSemantics(
                attribute=attribute,
                landed=float(landed.mean()) if len(landed) else float("nan"),
                judge_on_images=_mean_of(on_images[Column.IMAGE.of(own)]),
                judge_at_start=_mean_of(on_images[Column.RECONSTRUCTION.of(own)]),
                drop=replace(drop, detail=details.get((attribute, "counterfactual"), float("nan"))),
                off=replace(
                    _followed(off, columns, own, options.seed), detail=details.get((attribute, "off"), float("nan"))
                ),
            )
        )
    return Semantics(tuple(found), options.seed, told_apart(made, seed=options.seed, progress=progress))


def _mean_of(column: pl.Series) -> float:
    mean = column.cast(pl.Float64).mean()
    return mean if isinstance(mean, float) else float("nan")


def _followed(row: Row, judged: Sequence[str], own: str, seed: int) -> JudgedEnd:
    """What a judge's columns ``judged`` say of the counterfactuals of one attribute, whose column is ``own``."""
    if not len(row):
        nan = float("nan")
        return JudgedEnd(0, nan, nan, nan, nan, nan, nan, len(judged), "", nan, nan)
    place = judged.index(own)
    change = row.change
    base_change = row.base_change
    mean = change.mean(axis=0)
    order = np.argsort(-np.abs(mean), kind="stable")
    other = int(next((i for i in order if i != place), place))
    both = np.stack([change[:, place], base_change], axis=1)
    low, high = _interval(both, seed, own)
    # an attribute that moves in the wrong direction is not recognised, no matter how far it moves
    rank = int(np.flatnonzero(order == place)[0]) + 1 if mean[place] < 0 else len(judged)
    return JudgedEnd(
        n=len(row),
        base_change=float(base_change.mean()),
        judge_change=float(mean[place]),
        judge_after=float(row.after[:, place].mean()),
        share=float(mean[place] / base_change.mean()),
        ci_low=low,
        ci_high=high,
        rank=rank,
        runner_up=judged[other].partition(":")[2],
        runner_up_change=float(mean[other]),
        detail=float("nan"),
    )


def _interval(both: Floats, seed: int, name: str) -> tuple[float, float]:
    counts = bootstrap_counts(len(both), resamples=RESAMPLES, rng=generator(seed, "semantics", name))
    sums = counts @ both
    low, high = percentile_interval(sums[:, :1] / sums[:, 1:])
    return float(low[0]), float(high[0])
