"""From a run's shards to its conclusions: matrix, effects, gaps, findings and relations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import polars as pl

from cfalign._analysis.alignment import Row, alignment, usable
from cfalign._analysis.duplicates import (
    copied_effect,
    copied_gap,
    duplicates,
    repeated,
    standing_for,
    twins,
    with_copies,
)
from cfalign._analysis.effects import Unmixed, effects
from cfalign._analysis.group_gaps import Groups, group_gaps
from cfalign._analysis.inseparable import Inseparable, inseparable
from cfalign._analysis.relations import relations
from cfalign._analysis.statistics import People
from cfalign._audit.findings import Evidence, findings
from cfalign._audit.head_checks import followed
from cfalign._audit.options import AuditOptions
from cfalign._audit.shards import Shards
from cfalign._audit.witness import answered_by_itself
from cfalign._findings import Standing, Witness
from cfalign._results import Cell, Conclusions, Counts, Duplicate, Effect, Floats, Followed, Outcome
from cfalign._runs.run import Run


def conclude(
    run: Run,
    *,
    bases: Sequence[str],
    heads: Sequence[str],
    audited: Sequence[str],
    attributes: Sequence[str],
    options: AuditOptions,
    judges: Mapping[str, str],
    standings: Mapping[str, Standing] | None = None,
) -> Conclusions:
    """What the shards of ``run`` say: every number follows from them, the options and the seed.

    ``judges``: the judge's column of an attribute, where it has one. ``standings``: what the effects of each audited
    head rest on; by default on the judges, or where there is none on the attributes' heads.
    """
    shards = Shards.of(run)
    rows = {base: shards.row(base, heads) for base in bases}
    minimum = options.alignment.min_base_change
    used = {base: usable(row, min_base_change=minimum) for base, row in rows.items()}
    cells = alignment(
        [rows[base] for base, (counting, _) in used.items() if len(counting)],
        heads,
        logit_scale=shards.logit_scale(heads),
        options=options.alignment,
        seed=options.seed,
        people=shards.people,
    )
    columns = [*heads, *judges.values()]
    answers = shards.answers(heads)
    copies = duplicates(answers, heads, first=attributes)
    twice = repeated(copies, attributes)
    alone = [a for a in attributes if a not in twice]
    standing = _standing(standings or {}, answers, heads, audited, attributes, judges, copies)
    switched = shards.switched(attributes, columns, options=options)
    groups, examined = shards.groups(alone, judges, options.search.eligible)
    rows_alone = [row for row in switched if row.base in alone]
    together = inseparable(rows_alone, columns, judges, groups.spans, scores=groups.own_scores, names=alone)
    solved = _unmixed(rows_alone, columns, groups, together, judges, standing, copies, shards.people, options)
    rows_of = {"audited": audited, "attributes": attributes}
    mirrored = [copy for copy in copies if copy.head in twice]
    found = _with_readings(cells, with_copies(solved.effects, mirrored, **rows_of, copied=copied_effect))
    silent = twice | repeated(copies, audited)
    told = [e for e in found if not {e.audited, e.attribute} & silent]
    known = shards.on_reconstructions(heads)
    looked_at = {head: scores[shards.seen] for head, scores in known.items()}
    members = {a for group in together for a in group.attributes}
    foreign = [_untold(e) if e.attribute in members else e for e in told if not e.own]
    foreign = [e for e in foreign if not standing[e.audited].about(e.attribute)]
    follow = partial(followed, switched, columns, seed=options.seed, people=shards.people)
    controls = {attribute: follow(attribute, judge) for attribute, judge in judges.items()}
    first = [e for e in found if e.attribute in alone]
    counting_rows = {base: row for base, (row, _) in used.items()}
    evidence = Evidence(cells, counting_rows, heads, shards.ids, standing, judges, shards.people)
    gaps = group_gaps(first, solved.carried, groups, {a: known[a][examined] for a in audited})
    return Conclusions(
        cells=tuple(cells),
        effects=tuple(found),
        gaps=tuple(with_copies(gaps, mirrored, **rows_of, copied=copied_gap)),
        joint=tuple(solved.joint),
        findings=findings(told, solved.joint, together, evidence, options),
        relations=tuple(relations(foreign, cells, looked_at, min_effect=options.min_effect)),
        counts=replace(
            _counts(shards, rows, {base: reasons for base, (_, reasons) in used.items()}, heads, controls),
            duplicates=copies,
            standings=standing,
            inseparable=tuple(group.name for group in together),
        ),
    )


def _untold(effect: Effect) -> Effect:
    """The same of a member of a group: what it does alone is not known, only how it goes along."""
    nan = float("nan")
    return replace(effect, effect=nan, ci_low=nan, ci_high=nan, q=nan)


def _standing(
    given: Mapping[str, Standing],
    answers: Floats,
    heads: Sequence[str],
    audited: Sequence[str],
    attributes: Sequence[str],
    judges: Mapping[str, str],
    copies: Sequence[Duplicate],
) -> dict[str, Standing]:
    """What the effects of each audited head rest on: as given, but for heads whose answers an attribute gives."""
    otherwise = Standing(Witness.JUDGE if judges else Witness.HEADS)
    standing = {a: given.get(a, otherwise) for a in audited}
    unjudged = [a for a in attributes if a not in judges]
    return standing | answered_by_itself(standing, twins(answers, heads, audited, unjudged, copies))


def _unmixed(
    rows: Sequence[Row],
    columns: Sequence[str],
    groups: Groups,
    together: Sequence[Inseparable],
    judges: Mapping[str, str],
    standing: Mapping[str, Standing],
    copies: Sequence[Duplicate],
    people: People | None,
    options: AuditOptions,
) -> Unmixed:
    """The effects on the audited heads, which ``standing`` names in their order."""
    return effects(
        rows,
        columns,
        list(standing),
        same=standing_for(copies),
        witnesses=judges,
        spans=groups.spans,
        together=groups.together,
        groups=together,
        reach={a: one.reach for a, one in standing.items()},
        unwitnessed=[a for a, one in standing.items() if one.witness is Witness.NONE],
        options=options.effects,
        seed=options.seed,
        people=people,
    )


def _with_readings(cells: Sequence[Cell], found: Sequence[Effect]) -> list[Effect]:
    """The effects with both readings of the matrix, whose incoming one counts an attribute as lowered, not switched."""
    nan = float("nan")
    incoming = {(c.downstream, c.base): c.ratio_of_means for c in cells}
    outgoing = {(c.base, c.downstream): c.psi for c in cells}
    pairs = [(e, (e.audited, e.attribute)) for e in found]
    return [replace(e, incoming=incoming.get(p, nan), outgoing=outgoing.get(p, nan)) for e, p in pairs]


def _counts(
    shards: Shards,
    rows: Mapping[str, Row],
    reasons: Mapping[str, Mapping[str, int]],
    heads: Sequence[str],
    controls: Mapping[str, Followed],
) -> Counts:
    return Counts(
        controls=controls,
        outcomes={base: _by_outcome(row, shards.not_eligible(base)) for base, row in rows.items()},
        exclusions={base: _excluded(some, shards.not_eligible(base)) for base, some in reasons.items()},
        drift=shards.drift(heads),
        cost=_cost(shards.responses, list(rows), shards.images),
        images=shards.images,
        skipped=shards.skipped,
    )


def _by_outcome(row: Row, not_eligible: int) -> dict[str, int]:
    counts = Counter(row.outcomes) + Counter({Outcome.NOT_ELIGIBLE: not_eligible})
    return {o.value: counts[o] for o in Outcome if counts[o]}


def _excluded(reasons: Mapping[str, int], not_eligible: int) -> dict[str, int]:
    """The reasons of a row of the matrix with the images that are not eligible, of which the row knows nothing."""
    counts = Counter(reasons) + Counter({Outcome.NOT_ELIGIBLE.value: not_eligible})
    first = [o.value for o in Outcome if o.value in counts]
    return {name: counts[name] for name in [*first, *(n for n in counts if n not in first)]}


def _cost(responses: pl.DataFrame, bases: Sequence[str], images: int) -> dict[str, int | float]:
    """Counterfactuals and passes through the decoder, beside those of the search: an image costs one, and one for the
    gradients of all its rays (a counterfactual by steps one of its own), and every walk one for its control.
    """
    walked = responses.filter(pl.col("evaluations") > 0)
    searched = walked.filter(pl.col("base").is_in(bases))
    switched = searched.filter(pl.col("off_distance").is_not_nan())
    decodes = int(walked["evaluations"].sum()) + int(walked["off_evaluations"].sum())
    starts = len(walked) if "backwards" in walked.columns else walked["image_id"].n_unique()
    return {
        "counterfactuals": len(searched),
        "raised": len(walked) - len(searched),
        "search_decodes_per_cf": _mean(searched["evaluations"]),
        "off_decodes_per_cf": _mean(switched["off_evaluations"]),
        "decoder_forwards": images + starts + len(walked) + decodes,
        "decoder_backwards": _backwards(walked),
    }


def _mean(counts: pl.Series) -> float:
    return float(counts.sum()) / len(counts) if len(counts) else float("nan")


def _backwards(walked: pl.DataFrame) -> int:
    """One per counterfactual for latent-shift; other methods have counted theirs."""
    names = [name for name in ("backwards", "off_backwards") if name in walked.columns]
    return sum(int(walked[name].sum()) for name in names) if names else len(walked)
