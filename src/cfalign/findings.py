"""From a run's shards to its conclusions: matrix, effects, findings and the images behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy.special import logit

from cfalign.alignment import Row, alignment, usable
from cfalign.effects import effects
from cfalign.results import Cell, Effect, Finding, Floats, Outcome, Sample
from cfalign.store import Run
from cfalign.sweep import AuditOptions


@dataclass(frozen=True)
class Conclusions:
    """What a run's shards say."""

    cells: list[Cell]
    effects: list[Effect]
    findings: list[Finding]
    counts: dict[str, Any]
    """``outcomes`` and ``exclusions`` per base, ``drift`` per head, ``images`` looked at, ``skipped`` files with
    reasons, ``cost``."""


def conclude(
    run: Run,
    *,
    bases: Sequence[str],
    heads: Sequence[str],
    audited: Sequence[str],
    attributes: Sequence[str],
    options: AuditOptions,
) -> Conclusions:
    """Aggregate the shards of ``run``: every number follows from them, the options and the seed."""
    responses, scores = run.responses(), run.scores()
    places = {image_id: i for i, image_id in enumerate(scores["image_id"].to_list())}
    rows = {base: _row(responses, base, heads, places) for base in bases}
    minimum = options.alignment.min_base_change
    used = {base: usable(row, min_base_change=minimum)[0] for base, row in rows.items()}
    cells = alignment(
        list(rows.values()),
        heads,
        logit_scale=_logit_scale(scores, heads),
        options=options.alignment,
        seed=options.seed,
    )
    outgoing = {(c.base, c.downstream): c.psi for c in cells}
    off = {a: usable(_row(responses, a, heads, places, off=True), min_base_change=minimum)[0] for a in attributes}
    solved = effects(
        [off[a] for a in attributes],
        heads,
        audited,
        outgoing=outgoing,
        options=options.effects,
        seed=options.seed,
    )
    incoming = {(c.downstream, c.base): c.ratio_of_means for c in cells}
    found = [replace(e, incoming=incoming[e.audited, e.attribute]) for e in solved]
    ids = scores["image_id"].to_list()
    ranked = _ranked(found, options)
    findings = [replace(f, samples=_samples(f, used, heads, ids, options.shown)) for f in ranked]
    return Conclusions(cells, found, findings, _counts(responses, scores, rows, heads, minimum))


def _row(
    responses: pl.DataFrame, base: str, heads: Sequence[str], places: Mapping[str, int], *, off: bool = False
) -> Row:
    """The counterfactuals of a base; with ``off``, at the point where it counts as switched off."""
    rows = responses.filter(pl.col("base") == base)
    after, null = ("off", "off_null") if off else ("after", "null")

    def block(kind: str) -> Floats:
        return np.asarray(rows.select([f"{kind}.{h}" for h in heads]).to_numpy(), dtype=np.float64)

    return Row(
        base=base,
        image=np.array([places[i] for i in rows["image_id"].to_list()], dtype=np.int64),
        outcomes=tuple(Outcome(o) for o in rows["outcome"].to_list()),
        base_before=rows["base_before"].to_numpy(),
        base_after=rows[f"{after}.{base}"].to_numpy(),
        before=block("before"),
        after=block(after),
        null=block(null),
    )


def _logit_scale(scores: pl.DataFrame, heads: Sequence[str]) -> dict[str, float]:
    """Standard deviation of every head's logit over the reconstructions; NaN where scores leave [0, 1]."""
    scale = {}
    for head in heads:
        score = scores[f"reconstruction.{head}"].drop_nulls().to_numpy()
        score = score[np.isfinite(score)]
        if len(score) < 2 or score.min() < 0 or score.max() > 1:
            scale[head] = float("nan")
            continue
        deviation = float(np.std(np.clip(logit(score), -36, 36)))
        scale[head] = deviation if deviation > 0 else float("nan")
    return scale


def own_concept(audited: str, attribute: str) -> bool:
    """Whether the attribute is what the audited head is meant to see: the same target in another classifier."""
    return audited.rpartition(":")[2] == attribute.rpartition(":")[2]


def _ranked(found: Sequence[Effect], options: AuditOptions) -> list[Finding]:
    """Effects worth a look, strongest first: q < 0.05, an interval without zero, at least ``min_effect``."""
    worth = [
        e
        for e in found
        if e.q < 0.05
        and abs(e.effect) >= options.min_effect
        and (e.ci_low > 0 or e.ci_high < 0)
        and not own_concept(e.audited, e.attribute)
    ]
    worth.sort(key=lambda e: -abs(e.effect))
    return [
        Finding(i, e.audited, e.attribute, e.effect, e.ci_low, e.ci_high, e.q, e.incoming, e.outgoing, e.n, ())
        for i, e in enumerate(worth[: options.max_findings], start=1)
    ]


def _samples(
    finding: Finding, used: Mapping[str, Row], heads: Sequence[str], ids: Sequence[str], k: int
) -> tuple[Sample, ...]:
    """The clearest images of both readings: those of the attribute, then of the audited head where it has any."""
    result = []
    for base, downstream in ((finding.attribute, finding.audited), (finding.audited, finding.attribute)):
        if base not in used or not len(used[base]):
            continue
        row, column = used[base], list(heads).index(downstream)
        psi = (row.after - row.before)[:, column] / row.base_change
        landed = np.array([o.landed for o in row.outcomes])
        order = np.argsort(np.where(landed, -np.sign(finding.effect) * psi, np.inf), kind="stable")[:k]
        result += [
            Sample(
                ids[row.image[i]], base, downstream, float(psi[i]), float(row.base_before[i]), float(row.base_after[i]),
                float(row.before[i, column]), float(row.after[i, column]), {},
            )
            for i in order
        ]  # fmt: skip
    return tuple(result)


def _counts(
    responses: pl.DataFrame,
    scores: pl.DataFrame,
    rows: Mapping[str, Row],
    heads: Sequence[str],
    minimum: float,
) -> dict[str, Any]:
    outcomes = {b: {o.value: row.outcomes.count(o) for o in Outcome if o in row.outcomes} for b, row in rows.items()}
    drift = {h: (scores[f"reconstruction.{h}"] - scores[f"image.{h}"]).abs().mean() for h in heads}
    skipped = scores.filter(pl.col("skipped").is_not_null()).select("image_id", pl.col("skipped").alias("reason"))
    walked = responses.filter(pl.col("evaluations") > 0)
    made = len(walked)
    attributes = walked.filter(pl.col("off_distance").is_not_nan())
    images = len(scores) - len(skipped)
    return {
        "outcomes": outcomes,
        "exclusions": {b: usable(row, min_base_change=minimum)[1] for b, row in rows.items()},
        "drift": drift,
        "images": images,
        "skipped": skipped.sort("image_id").to_dicts(),
        "cost": {
            "counterfactuals": made,
            "search_decodes_per_cf": walked["evaluations"].sum() / made if made else None,
            "off_decodes_per_cf": attributes["off_evaluations"].mean(),
            "decoder_forwards": images
            + 2 * made
            + len(attributes)
            + int(walked["evaluations"].sum())
            + int(walked["off_evaluations"].sum()),
            "decoder_backwards": _backwards(walked),
        },
    }


def _backwards(walked: pl.DataFrame) -> int:
    """One per counterfactual for latent-shift; other methods have counted theirs."""
    names = [name for name in ("backwards", "off_backwards") if name in walked.columns]
    return sum(int(walked[name].sum()) for name in names) if names else len(walked)
