"""From a run's shards to its conclusions: matrix, effects, findings and the images behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from scipy.special import logit

from cfalign._analysis.alignment import Row, alignment, usable
from cfalign._analysis.effects import effects
from cfalign._analysis.group_gaps import Groups, group_gaps
from cfalign._analysis.relations import Relation, relations
from cfalign._analysis.statistics import bootstrap_counts, generator, percentile_interval
from cfalign._audit.options import AuditOptions
from cfalign._results import Cell, Effect, Finding, Floats, GroupGap, Outcome, Sample, own_concept
from cfalign._runs.columns import Column, raised_label
from cfalign._runs.run import Run


@dataclass(frozen=True)
class Conclusions:
    """What a run's shards say."""

    cells: list[Cell]
    effects: list[Effect]
    findings: list[Finding]
    gaps: list[GroupGap]
    """Of every audited head and attribute."""
    relations: list[Relation]
    """What goes together against what is used."""
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
    judges: Mapping[str, str],
) -> Conclusions:
    """Aggregate the shards of ``run``: every number follows from them, the options and the seed.

    ``judges``: the judge's column of an attribute, where it has one.
    """
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
    columns = [*heads, *judges.values()]
    off = switched_off(run, attributes, columns, options=options)
    groups, examined = _groups(scores, responses, attributes, judges, options.search.eligible)
    solved = effects(
        off,
        columns,
        audited,
        outgoing=outgoing,
        witnesses=judges,
        spans=groups.spans,
        together=groups.together,
        options=options.effects,
        seed=options.seed,
    )
    incoming = {(c.downstream, c.base): c.ratio_of_means for c in cells}
    found = [replace(e, incoming=incoming[e.audited, e.attribute]) for e in solved.effects]
    ids = scores["image_id"].to_list()
    ranked = _ranked(found, options)
    findings = [
        replace(f, null=_null(f, used, heads), samples=_samples(f, used, heads, ids, options.shown)) for f in ranked
    ]
    counts = _counts(responses, scores, rows, heads, minimum)
    counts["controls"] = {a: followed(off, columns, a, j, seed=options.seed) for a, j in judges.items()}
    known = {h: scores[Column.RECONSTRUCTION.of(h)].cast(pl.Float64).fill_null(float("nan")).to_numpy() for h in heads}
    foreign = [e for e in found if not own_concept(e.audited, e.attribute)]
    remarkable = relations(foreign, cells, known, min_effect=options.min_effect)
    gaps = group_gaps(found, solved.carried, groups, {a: known[a][examined] for a in audited})
    return Conclusions(cells, found, findings, gaps, remarkable, counts)


WAYS = ("lowered", "raised")


def switched_off(run: Run, attributes: Sequence[str], columns: Sequence[str], *, options: AuditOptions) -> list[Row]:
    """The usable counterfactuals of every attribute where it counts as switched, off and then, where made, on."""
    responses, ids = run.responses(), run.scores()["image_id"].to_list()
    places = {image_id: i for i, image_id in enumerate(ids)}
    return [
        usable(_off(responses, a, columns, places, way), min_base_change=options.alignment.min_base_change)[0]
        for way in (WAYS if options.both_ways else WAYS[:1])
        for a in attributes
    ]


def check_heads(
    rows: Sequence[Row],
    columns: Sequence[str],
    *,
    scores: pl.DataFrame,
    attributes: Sequence[str],
    judges: Mapping[str, str],
) -> dict[str, dict[str, float]]:
    """What a run itself says of how well its reference heads read their attributes, by attribute.

    ``disagreement``: mean |judge − head| over the reconstructions. ``entangled``: the most that another attribute
    moves, as its judge sees it, per unit of the head's own counterfactuals. ``answers``: the most that the head moves
    in the counterfactuals of another attribute, per unit of that one's head. ``misread``: the same of what it moves
    beyond its judge. The first and the last need a judge of the attribute. NaN where undefined.

    ``rows``: of ``switched_off``, with these ``columns``.
    """
    columns, rows = list(columns), [r for r in rows if len(r)]
    names = list(dict.fromkeys(r.base for r in rows))
    per_base = [_per_unit([r for r in rows if r.base == n], columns.index(n)) for n in names]
    change = np.stack(per_base) if per_base else np.zeros((0, len(columns)))
    found = {}
    for a in attributes:
        seen = [columns.index(judges.get(b, b)) for b in attributes if b != a]
        others = [k for k, n in enumerate(names) if n != a]
        mine, judge = columns.index(a), columns.index(judges.get(a, a))
        beyond = np.abs(change[others, mine] - change[others, judge])
        gap = (scores[Column.RECONSTRUCTION.of(a)] - scores[Column.RECONSTRUCTION.of(columns[judge])]).abs().mean()
        found[a] = {
            "disagreement": float(gap) if a in judges and isinstance(gap, float) else float("nan"),
            "entangled": float(np.abs(change[names.index(a), seen]).max()) if a in names and seen else float("nan"),
            "answers": float(np.abs(change[others, mine]).max()) if others else float("nan"),
            "misread": float(beyond.max()) if a in judges and others else float("nan"),
        }
    return found


def _row(responses: pl.DataFrame, base: str, heads: Sequence[str], places: Mapping[str, int]) -> Row:
    """The counterfactuals of a base."""
    rows = responses.filter(pl.col("base") == base)
    return _as_row(base, rows, heads, places, after=Column.AFTER, null=Column.NULL)


def _off(responses: pl.DataFrame, attribute: str, heads: Sequence[str], places: Mapping[str, int], way: str) -> Row:
    """The counterfactuals of an attribute where it counts as switched, off or, ``raised``, on."""
    rows = responses.filter(pl.col("base") == (raised_label(attribute) if way == WAYS[1] else attribute))
    return _as_row(attribute, rows, heads, places, after=Column.OFF, null=Column.OFF_NULL)


def _as_row(
    head: str,
    rows: pl.DataFrame,
    heads: Sequence[str],
    places: Mapping[str, int],
    *,
    after: Column,
    null: Column,
) -> Row:
    def block(where: Column) -> Floats:
        return np.asarray(rows.select(where.columns(heads)).to_numpy(), dtype=np.float64)

    return Row(
        base=head,
        image=np.array([places[i] for i in rows["image_id"].to_list()], dtype=np.int64),
        outcomes=tuple(Outcome(o) for o in rows["outcome"].to_list()),
        base_before=rows[Column.BEFORE.of(head)].to_numpy(),
        base_after=rows[after.of(head)].to_numpy(),
        before=block(Column.BEFORE),
        after=block(after),
        null=block(null),
    )


def _groups(
    scores: pl.DataFrame, responses: pl.DataFrame, attributes: Sequence[str], judges: Mapping[str, str], eligible: float
) -> tuple[Groups, list[int]]:
    """Which attributes are predicted on which of the images that any attribute looked at, which are the same for every
    size of chunk; and where these images stand. Images without all scores are not among them.
    """
    bases = [*attributes, *map(raised_label, attributes)]
    seen = set(responses.filter(pl.col("base").is_in(bases))["image_id"].to_list())
    own, watched = (
        scores.select([pl.col(c).cast(pl.Float64) for c in Column.RECONSTRUCTION.columns(columns)]).to_numpy()
        for columns in (attributes, [judges.get(a, a) for a in attributes])
    )
    known = np.isfinite(own).all(axis=1) & np.isfinite(watched).all(axis=1)
    places = [i for i, name in enumerate(scores["image_id"].to_list()) if known[i] and name in seen]
    return Groups(tuple(attributes), own[places] >= eligible, watched[places]), places


def followed(
    rows: Sequence[Row], heads: Sequence[str], attribute: str, judge: str, *, seed: int
) -> dict[str, float | int]:
    """How far the judge follows the counterfactuals of an attribute, ΣΔjudge / ΣΔattribute over both ways, with a 95 %
    interval over images; what is missing to 1 is the adversarial share. NaN without counterfactuals.
    """
    changes = [(row.after - row.before)[:, [heads.index(judge), heads.index(attribute)]] for row in rows]
    own = [np.sign(c[:, 1:]) * c for row, c in zip(rows, changes, strict=True) if row.base == attribute]
    change = np.concatenate(own) if own else np.zeros((0, 2))
    if not len(change):
        return {"judge_share": float("nan"), "ci_low": float("nan"), "ci_high": float("nan"), "n": 0}
    counts = bootstrap_counts(len(change), resamples=1000, rng=generator(seed, "judge", attribute))
    sums = counts @ change
    low, high = percentile_interval(sums[:, :1] / sums[:, 1:])
    total = change.sum(axis=0)
    return {
        "judge_share": float(total[0] / total[1]), "ci_low": float(low[0]), "ci_high": float(high[0]), "n": len(change)
    }  # fmt: skip


def _per_unit(rows: Sequence[Row], own: int) -> Floats:
    """ΣΔ of every column per ΣΔ of the rows' own head, those that raise it counted backwards, [column]."""
    total = sum(np.sign(d[:, own].sum()) * d.sum(axis=0) for d in (r.after - r.before for r in rows))
    return np.asarray(total / total[own], dtype=np.float64)


def _logit_scale(scores: pl.DataFrame, heads: Sequence[str]) -> dict[str, float]:
    """Standard deviation of every head's logit over the reconstructions; NaN where scores leave [0, 1]."""
    scale = {}
    for head in heads:
        score = scores[Column.RECONSTRUCTION.of(head)].drop_nulls().to_numpy()
        score = score[np.isfinite(score)]
        if len(score) < 2 or score.min() < 0 or score.max() > 1:
            scale[head] = float("nan")
            continue
        deviation = float(np.std(np.clip(logit(score), -36, 36)))
        scale[head] = deviation if deviation > 0 else float("nan")
    return scale


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
    nan = float("nan")
    return [
        Finding(i, e.audited, e.attribute, e.effect, e.ci_low, e.ci_high, e.q, e.incoming, nan, e.outgoing, e.n, ())
        for i, e in enumerate(worth[: options.max_findings], start=1)
    ]


def _null(finding: Finding, used: Mapping[str, Row], heads: Sequence[str]) -> float:
    row = used.get(finding.attribute)
    if row is None or not len(row):
        return float("nan")
    moved = (row.null - row.before)[:, list(heads).index(finding.audited)]
    return float(moved.sum() / row.base_change.sum())


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
    drift = {h: (scores[Column.RECONSTRUCTION.of(h)] - scores[Column.IMAGE.of(h)]).abs().mean() for h in heads}
    skipped = scores.filter(pl.col("skipped").is_not_null()).select("image_id", pl.col("skipped").alias("reason"))
    walked = responses.filter(pl.col("evaluations") > 0)
    made = len(walked)
    searched = walked.filter(pl.col("base").is_in(list(rows)))
    attributes = searched.filter(pl.col("off_distance").is_not_nan())
    images = len(scores) - len(skipped)
    return {
        "outcomes": outcomes,
        "exclusions": {b: usable(row, min_base_change=minimum)[1] for b, row in rows.items()},
        "drift": drift,
        "images": images,
        "skipped": skipped.sort("image_id").to_dicts(),
        "cost": {
            "counterfactuals": len(searched),
            "raised": made - len(searched),
            "search_decodes_per_cf": searched["evaluations"].sum() / len(searched) if len(searched) else None,
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
