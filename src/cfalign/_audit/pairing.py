"""The numbers of two runs, each beside its counterpart."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from cfalign._analysis.differences import summed
from cfalign._audit.changes import ChangeKind, Reading
from cfalign._audit.comparability import Matched, matched_attributes, same_sample
from cfalign._audit.measured import Measured, measured, standings_of, told_twice
from cfalign._errors import BadInput
from cfalign._findings import FindingKind, UnnamedFeature, Witness
from cfalign._results import GroupGap, excludes_zero, joint_members
from cfalign._runs.run import Run
from cfalign._runs.unnamed import has_unnamed

Members: TypeAlias = frozenset[tuple[str, bool]]
"""What switches together: attributes, and whether they go the way of the first in the order of the alphabet."""
Key: TypeAlias = tuple[ChangeKind, Matched, str | Members]


@dataclass(frozen=True)
class Audit:
    """A finished audit."""

    run: Run
    record: Mapping[str, Any]

    @classmethod
    def of(cls, run: Run | str | Path) -> Audit:
        """Raises BadInput when it is not finished, or no audit."""
        opened = run if isinstance(run, Run) else Run(run)
        record = opened.finished()
        if record["settings"].get("kind") != "audit":
            raise BadInput(
                f"{opened.path} is a bank: only audits have effects to compare; give the folder of an audit."
            )
        return cls(opened, record)

    @property
    def unwitnessed(self) -> set[str]:
        """The audited heads that have responses only."""
        return {a for a, s in standings_of(self.record).items() if s.witness is Witness.NONE}


@dataclass(frozen=True)
class Pair:
    """A relation in both runs; None where a run has it not."""

    kind: ChangeKind
    audited: str
    attribute: str
    before: Reading | None
    after: Reading | None
    own: bool
    reason: str


@dataclass(frozen=True)
class _Number:
    """A number of one run under the names that both runs share."""

    attribute: str
    reading: Reading
    own: bool
    twice: bool
    """Whether the run tells it under another name too."""
    turned: bool = False
    """Whether the reading is that of the joint effect in the other direction than its name says."""


def pairs_of(old: Audit, new: Audit, heads: Sequence[Matched]) -> Iterator[Pair]:
    """Every relation that either run measured, in the order of the run after. What both tell under another name too,
    since a head is a copy or complement of another one, is left out.
    """
    names = matched_attributes(old.record, new.record)
    responding = _responding(old, new, heads)
    numbers = [
        _numbers(audit, responding[side], _heads_by_name(heads, side), names if side == "before" else {})
        for audit, side in ((old, "before"), (new, "after"))
    ]
    if same_sample(old.record, new.record):
        for audit, side, found in zip((old, new), ("before", "after"), numbers, strict=True):
            found |= _gaps(audit, _heads_by_name(heads, side), names if side == "before" else {})
    before, after = numbers
    for key in (*after, *(k for k in before if k not in after)):
        there = [one for one in (before.get(key), after.get(key)) if one]
        if not all(one.twice for one in there):
            yield _paired(key, before, after)
    yield from _unnamed(old, new, heads)


def _responding(old: Audit, new: Audit, heads: Sequence[Matched]) -> dict[str, set[str]]:
    """The heads of each run that are compared by their responses: those without a witness in one of the runs."""
    some = [h for h in heads if h.before in old.unwitnessed or h.after in new.unwitnessed]
    return {"before": {h.before for h in some}, "after": {h.after for h in some}}


def _heads_by_name(heads: Sequence[Matched], side: str) -> dict[str, Matched]:
    return {getattr(head, side): head for head in heads if getattr(head, side)}


def _numbers(
    audit: Audit, responding: Collection[str], heads: Mapping[str, Matched], names: Mapping[str, str]
) -> dict[Key, _Number]:
    """Effects, joint effects and responses of a run. ``names``: what the other run calls attributes."""
    twice, found = told_twice(audit.record), dict[Key, _Number]()
    for one in measured(audit.run, audit.record, responding=responding):
        copied = bool({one.audited, one.attribute} & twice)
        reading = Reading(one.value, one.ci_low, one.ci_high, one.n, one.q, one.clear)
        kind = ChangeKind(one.kind.value)
        if one.kind is FindingKind.JOINT:
            members, turned = _members(one, names)
            reading = _turned(reading) if turned else reading
            found[kind, heads[one.audited], members] = _Number(one.attribute, reading, one.own, copied, turned)
        else:
            name = names.get(one.attribute, one.attribute)
            found[kind, heads[one.audited], name] = _Number(name, reading, one.own, copied)
    return found


def _members(joint: Measured, names: Mapping[str, str]) -> tuple[Members, bool]:
    """The members of a joint effect, and whether it switches the first in the order of the alphabet off."""
    members = sorted((names.get(name, name), there) for name, there in joint_members(joint.attribute))
    first = members[0][1]
    return frozenset((name, there == first) for name, there in members), not first


def _turned(reading: Reading) -> Reading:
    return replace(reading, value=-reading.value, ci_low=-reading.ci_high, ci_high=-reading.ci_low)


def _gaps(audit: Audit, heads: Mapping[str, Matched], names: Mapping[str, str]) -> dict[Key, _Number]:
    twice, standings, found = told_twice(audit.record), standings_of(audit.record), dict[Key, _Number]()
    for g in audit.run.rows(GroupGap):
        name = names.get(g.attribute, g.attribute)
        reading = Reading(g.gap, g.ci_low, g.ci_high, g.n_with + g.n_without, float("nan"), g.clear)
        own = g.own or (g.audited in standings and standings[g.audited].about(g.attribute))
        copied = bool({g.audited, g.attribute} & twice)
        found[ChangeKind.GAP, heads[g.audited], name] = _Number(name, reading, own, copied)
    return found


def _paired(key: Key, before: Mapping[Key, _Number], after: Mapping[Key, _Number]) -> Pair:
    kind, head, _ = key
    shown = after[key] if key in after else before[key]
    old, no_old = _reading(key, before, "before")
    new, no_new = _reading(key, after, "after")
    if shown.turned:
        old, new = (one and _turned(one) for one in (old, new))
    return Pair(kind, head.after or head.before, shown.attribute, old, new, shown.own, no_old or no_new)


def _reading(key: Key, among: Mapping[Key, _Number], side: str) -> tuple[Reading | None, str]:
    """The number of one run; where it has none, why not, or the sum that stands for it."""
    _, head, attribute = key
    if key in among:
        return among[key].reading, ""
    if not getattr(head, side):
        return None, f"the run {side} does not audit this head"
    if isinstance(attribute, str):
        return None, f"the run {side} does not measure this attribute"
    told = f"the run {side} could tell these attributes apart"
    total = _sum_of_members(among, head, attribute)
    return total, f"{told}, and lacks an effect of theirs" if total is None else f"{told}: the sum of their effects"


def _sum_of_members(among: Mapping[Key, _Number], head: Matched, members: Members) -> Reading | None:
    """The joint effect of attributes that a run told apart; None where it lacks one of them."""
    parts = [(among.get((ChangeKind.EFFECT, head, name)), 1 if there else -1) for name, there in sorted(members)]
    found = [(one.reading, sign) for one, sign in parts if one and one.reading.estimate.known]
    if len(found) < len(parts):
        return None
    total = summed([one.estimate for one, _ in found], [sign for _, sign in found])
    clear = excludes_zero(total.ci_low, total.ci_high)
    return Reading(total.value, total.ci_low, total.ci_high, sum(one.n for one, _ in found), float("nan"), clear)


def _unnamed(old: Audit, new: Audit, heads: Sequence[Matched]) -> Iterator[Pair]:
    """The unnamed features by head and number, of which at least one run counts one. They have no identity."""
    before, after = (
        {(_heads_by_name(heads, side)[f.audited], f.number): f for f in audit.run.unnamed()}
        for audit, side in ((old, "before"), (new, "after"))
    )
    for key in dict.fromkeys((*after, *before)):
        one, other = before.get(key), after.get(key)
        if not ((one and one.found) or (other and other.found)):
            continue
        missing = (one is None and _not_sought(old, "before")) or (other is None and _not_sought(new, "after"))
        reason = missing or "without a name: it may be another feature in the other run"
        name = key[0].after or key[0].before
        yield Pair(ChangeKind.UNNAMED, name, f"unnamed {key[1]}", _size(one), _size(other), own=False, reason=reason)


def _size(feature: UnnamedFeature | None) -> Reading | None:
    """The size of an effect, whose direction has no meaning."""
    if feature is None:
        return None
    ends = (feature.ci_low, feature.ci_high)
    low, high = ends if feature.effect >= 0 else (-ends[1], -ends[0])
    return Reading(abs(feature.effect), low, high, feature.n, feature.q, feature.found)


def _not_sought(audit: Audit, side: str) -> str:
    return f"the run {side} sought {'fewer' if has_unnamed(audit.run.path) else 'none'}"
