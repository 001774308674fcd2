"""Which numbers of a run are worth a person's look, and the images behind them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cfalign._analysis.alignment import Row
from cfalign._analysis.inseparable import Inseparable
from cfalign._analysis.statistics import People, generator, resampled_interval, resampled_sums
from cfalign._audit.options import AuditOptions
from cfalign._findings import Finding, FindingKind, Sample, Standing, Witness
from cfalign._results import Cell, Effect, Floats, JointEffect, excludes_zero

_ORDER = (Witness.JUDGE, Witness.HEADS, Witness.NONE)
_NAN = float("nan")


@dataclass(frozen=True)
class Evidence:
    """What findings rest on."""

    cells: Sequence[Cell]
    used: Mapping[str, Row]
    """The counterfactuals of each base that count."""
    heads: Sequence[str]
    """The columns of the rows."""
    ids: Sequence[str]
    """Of the images that the rows name by place."""
    standings: Mapping[str, Standing]
    judges: Mapping[str, str]
    """The judge's column of an attribute, where it has one."""
    people: People | None = None
    """The group of each image, where images are not independent."""

    def change(self, base: str, head: str) -> Floats:
        """Change of a head's score in the counterfactuals of a base, [image]."""
        return np.asarray(self.used[base].change[:, list(self.heads).index(head)])

    def who(self, base: str) -> People | None:
        """The group of each image of a base, where images are not independent."""
        return None if self.people is None else self.people[self.used[base].image]

    def null(self, base: str, head: str) -> float:
        """The incoming reading of the control; NaN without counterfactuals."""
        row = self.used.get(base)
        if row is None or not len(row):
            return _NAN
        moved = row.null_change[:, list(self.heads).index(head)]
        return float(moved.sum() / row.base_change.sum())

    def witness(self, audited: str, attributes: Sequence[str]) -> Witness:
        """What a number of a head and attributes rests on: a judge where it watches the concept and all of them."""
        concept = self.standings[audited].witness
        judged = all(a in self.judges for a in attributes)
        return Witness.HEADS if concept is Witness.JUDGE and not judged else concept


def findings(
    effects: Sequence[Effect],
    joint: Sequence[JointEffect],
    groups: Sequence[Inseparable],
    evidence: Evidence,
    options: AuditOptions,
) -> tuple[Finding, ...]:
    """The findings by rank, at most ``max_findings``.

    An effect needs an incoming reading of its own sign, whose interval excludes zero, where there is one. A joint
    effect needs a judge of every member: their own heads, which confuse them, do not tell how far they moved. A
    response needs clear readings of one sign, of at least ``min_response``; the outgoing one may be missing.

    Args:
        effects: of every audited head and attribute, each answer once.
        groups: attributes that cannot be told apart, none of which is a finding by itself.
    """
    grouped = {a for group in groups for a in group.attributes}
    unclear = {(c.downstream, c.base) for c in evidence.cells if c.n and not excludes_zero(c.ci_low, c.ci_high)}
    effects = [e for e in effects if not e.own and not evidence.standings[e.audited].about(e.attribute)]
    single = [e for e in effects if e.clear and e.attribute not in grouped]
    single = [e for e in single if (e.audited, e.attribute) not in unclear]
    unwitnessed = [e for e in effects if evidence.standings[e.audited].witness is Witness.NONE]
    found = [
        *(_of_effect(e, evidence, options) for e in single),
        *(_of_group(j, evidence, options) for j in joint if j.clear and set(j.members) <= set(evidence.judges)),
        *_of_responses(unwitnessed, evidence, options),
    ]
    worth = [f for f in found if f.kind is FindingKind.RESPONSE or f.size >= options.min_effect]
    worth.sort(key=lambda f: (_ORDER.index(f.witness), -f.size))
    first = worth[: options.max_findings]
    return tuple(replace(f, rank=k, samples=_samples(f, evidence, options.shown)) for k, f in enumerate(first, start=1))


def _of_effect(e: Effect, evidence: Evidence, options: AuditOptions) -> Finding:
    return Finding(
        rank=0,
        audited=e.audited,
        attribute=e.attribute,
        effect=e.effect,
        ci_low=e.ci_low,
        ci_high=e.ci_high,
        q=e.q,
        incoming=e.incoming,
        null=evidence.null(e.attribute, e.audited),
        outgoing=e.outgoing,
        n=e.n,
        samples=(),
        witness=evidence.witness(e.audited, [e.attribute]),
    )


def _of_group(j: JointEffect, evidence: Evidence, options: AuditOptions) -> Finding:
    return Finding(
        rank=0,
        audited=j.audited,
        attribute=j.attributes,
        effect=j.effect,
        ci_low=j.ci_low,
        ci_high=j.ci_high,
        q=j.q,
        incoming=j.incoming,
        null=_NAN,
        outgoing=_NAN,
        n=j.n,
        samples=(),
        kind=FindingKind.JOINT,
        witness=evidence.witness(j.audited, j.members),
        members=j.members,
    )


def _of_responses(effects: Sequence[Effect], evidence: Evidence, options: AuditOptions) -> Iterator[Finding]:
    """Heads without a witness: how their scores change when an attribute is taken off, where that is clear."""
    cells = {(c.base, c.downstream): c for c in evidence.cells}
    for e in effects:
        cell, back = cells.get((e.attribute, e.audited)), cells.get((e.audited, e.attribute))
        if cell is None or not cell.clear or not _agrees(cell, back, options.min_response):
            continue
        change = evidence.change(e.attribute, e.audited)
        rng = generator(options.seed, "response", e.attribute, e.audited)
        low, high = _interval(change, evidence.who(e.attribute), options.alignment.resamples, rng)
        if not excludes_zero(low, high) or abs(change.mean()) < options.min_response:
            continue
        yield Finding(
            rank=0,
            audited=e.audited,
            attribute=e.attribute,
            effect=_NAN,
            ci_low=_NAN,
            ci_high=_NAN,
            q=cell.q,
            incoming=e.incoming,
            null=evidence.null(e.attribute, e.audited),
            outgoing=e.outgoing,
            n=cell.n,
            samples=(),
            kind=FindingKind.RESPONSE,
            witness=Witness.NONE,
            change=float(change.mean()),
            change_low=low,
            change_high=high,
        )


def _interval(change: Floats, people: People | None, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap interval of the mean change, over images or people."""
    sums, drawn = resampled_sums(change[:, None], resamples=resamples, rng=rng, people=people)
    low, high = resampled_interval(sums / drawn[:, None], change.mean()[None], people)
    return float(low[0]), float(high[0])


def _agrees(incoming: Cell, outgoing: Cell | None, least: float) -> bool:
    """Whether the outgoing reading is clear, of the same sign and of at least this size; True where there is none."""
    if outgoing is None or not outgoing.n:
        return True
    return outgoing.clear and incoming.psi * outgoing.psi > 0 and abs(outgoing.psi) >= least


def _samples(finding: Finding, evidence: Evidence, most: int) -> tuple[Sample, ...]:
    """The clearest images of both readings: those of the attribute, then of the audited head where it has any."""
    attributes = finding.members or (finding.attribute,)
    pairs = [(a, finding.audited) for a in attributes]
    pairs += [] if finding.members else [(finding.audited, finding.attribute)]
    sign = float(np.sign(finding.incoming))
    return tuple(
        sample
        for base, downstream in pairs
        if base in evidence.used
        for sample in _clearest(evidence, base, downstream, sign=sign, most=most)
    )


def _clearest(evidence: Evidence, base: str, downstream: str, *, sign: float, most: int) -> list[Sample]:
    """The images of a base on which the downstream head moved furthest the way of ``sign``, those that landed first."""
    row, column = evidence.used[base], list(evidence.heads).index(downstream)
    psi = row.change[:, column] / row.base_change
    landed = np.array([o.landed for o in row.outcomes], dtype=bool)
    order = np.argsort(np.where(landed, -sign * psi, np.inf), kind="stable")
    before, after = (np.asarray(block)[:, column] for block in (row.before, row.after))
    return [
        Sample(
            image_id=evidence.ids[row.image[i]],
            base=row.base,
            downstream=downstream,
            psi=float(psi[i]),
            base_before=float(row.base_before[i]),
            base_after=float(row.base_after[i]),
            downstream_before=float(before[i]),
            downstream_after=float(after[i]),
            files={},
        )
        for i in order[:most]
    ]
