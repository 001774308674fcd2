"""The answer of a run in one plain sentence: what stands at the top of the report in all its forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

from cfalign._figures import style
from cfalign._findings import Finding, FindingKind, UnnamedFeature
from cfalign._results import joint_members
from cfalign.report.content import ReportData
from cfalign.report.verdict import unwitnessed
from cfalign.report.words import Mark, list_of, plural

STRONGEST = 3
"""Findings that are named; the others are counted."""
_UNMEASURED = "no effect can be measured, for want of a witness"


def answer(data: ReportData, mark: Mark) -> str:
    """What the audited heads react to, in one sentence.

    The three largest findings are named with their size, the others counted. Heads without a witness have responses,
    whose cause is open, and the sentence says so. ``mark``: how a name is written.
    """
    if not data.audited:
        return (
            f"No classifier head was audited: this run tells how {plural(len(data.bases), 'head')} and what they see "
            "move with one another."
        )
    effects = [f for f in data.conclusions.findings if f.kind is not FindingKind.RESPONSE]
    responses = [f for f in data.conclusions.findings if f.kind is FindingKind.RESPONSE]
    unnamed = [u for u in data.unnamed if u.found]
    names = _Names(data, mark)
    parts = [_effects(data, effects, names)] if effects else []
    if responses:
        parts.append(_responses(data, responses, names, after=bool(effects)))
    if unnamed:
        parts.append(_unnamed(unnamed, names, told={f.audited for f in data.conclusions.findings}))
    if effects and (silent := [a for a in unwitnessed(data) if a not in {f.audited for f in responses}]):
        parts.append(f"of {names.some(silent)} {_UNMEASURED}")
    if not effects and not responses:
        parts = [_nothing(data, names, more=bool(unnamed)), *parts]
    return "; ".join(parts) + "."


class _Names:
    """How heads are called in the sentence: by their target alone where no other audited head has it."""

    def __init__(self, data: ReportData, mark: Mark) -> None:
        targets = [audited.rpartition(":")[2] for audited in data.audited]
        alone = {a: t for a, t in zip(data.audited, targets, strict=True) if targets.count(t) == 1}
        self._short, self.mark = alone, mark

    def head(self, audited: str) -> str:
        return self.mark(self._short.get(audited, audited))

    def attribute(self, finding: Finding) -> str:
        """The attribute of a finding, or all that go together."""
        if finding.kind is not FindingKind.JOINT:
            return self.mark(finding.attribute)
        members = joint_members(finding.attribute)
        return " with ".join(self.mark(name) if there else f"not {self.mark(name)}" for name, there in members)

    def some(self, heads: Iterable[str]) -> str:
        return list_of(list(dict.fromkeys(heads)), self.head)


def _effects(data: ReportData, findings: Sequence[Finding], names: _Names) -> str:
    several = len(data.audited) > 1
    heads = len({f.audited for f in findings})
    own = "its own" if heads == 1 else "their own"
    who = _so_many(heads, len(data.audited)) if several else names.head(findings[0].audited)
    reacts = "reacts" if heads == 1 else "react"

    def told(f: Finding) -> str:
        size = f"{names.attribute(f)} ({style.signed(f.effect)})"
        return f"{names.head(f.audited)} to {size}" if several else size

    what = "an attribute that is" if len({f.attribute for f in findings}) == 1 else "attributes that are"
    return f"{who} {reacts} to {what} not {own}: {_strongest(findings, told)}"


def _responses(data: ReportData, findings: Sequence[Finding], names: _Names, *, after: bool) -> str:
    several = len(data.audited) > 1
    heads = len({f.audited for f in findings})

    def told(f: Finding) -> str:
        size = f"{names.attribute(f)} ({style.signed(f.change)})"
        return f"{names.head(f.audited)} without {size}" if several else size

    if after:
        who = f"{plural(heads, 'head')} without a witness"
    else:
        who = _so_many(heads, len(data.audited)) if several else names.head(findings[0].audited)
    answers, they = ("answers", "it uses") if heads == 1 else ("answer", "they use")
    why = "" if after else " for want of a witness"
    return (
        f"{who} {answers} when other attributes are taken off, but whether {they} them is open{why}: "
        f"{_strongest(findings, told)}"
    )


def _unnamed(features: Sequence[UnnamedFeature], names: _Names, *, told: AbstractSet[str]) -> str:
    heads = list(dict.fromkeys(u.audited for u in features))
    react = "reacts" if len(heads) == 1 else "react"
    also = "also " if told >= set(heads) else ""
    size = max((u.effect for u in features), key=abs)
    largest = f" ({style.signed(size)})" if len(heads) == 1 else f" (up to {style.signed(size)})"
    return f"{names.some(heads)} {also}{react} to something that no reference head names{largest}"


def _nothing(data: ReportData, names: _Names, *, more: bool) -> str:
    """The first part where no named attribute is a finding."""
    count, without = len(data.audited), unwitnessed(data)
    if len(without) == count:
        who = f"{names.head(data.audited[0])} has no" if count == 1 else f"{_none_of(count)} has a"
        return (
            f"{who} witness, so no effect can be measured, and no other attribute's counterfactuals move "
            f"{'it' if count == 1 else 'them'} clearly"
        )
    witnessed = [a for a in data.audited if a not in without]
    who = f"{names.head(witnessed[0])} does not react" if len(witnessed) == 1 else f"{_none_of(len(witnessed))} reacts"
    told = f"{who} clearly to a named attribute that is not its own"
    if data.unnamed and not more:
        told += ", nor to anything without a name"
    if without:
        told += f"; of {names.some(without)} {_UNMEASURED}"
    return told


def _so_many(some: int, count: int) -> str:
    return f"All {count} audited heads" if some == count else f"{some} of {count} audited heads"


def _none_of(count: int) -> str:
    return f"None of the {count} audited heads"


def _strongest(findings: Sequence[Finding], told: Callable[[Finding], str]) -> str:
    """The largest ones, and how many more there are."""
    ordered = sorted(findings, key=lambda f: (-f.size, f.rank))
    rest = len(ordered) - STRONGEST
    return ", ".join(told(f) for f in ordered[:STRONGEST]) + (f" and {rest} more" if rest > 0 else "")
