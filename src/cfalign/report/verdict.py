"""What was found, in sentences, and which witnesses it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cfalign._analysis.relations import mutual
from cfalign._audit.witness import UNRECORDED
from cfalign._figures import style
from cfalign._findings import Finding, FindingKind, Standing, Witness
from cfalign._results import ALPHA, Cell, JointEffect, joint_members
from cfalign.report.content import ReportData
from cfalign.report.words import Mark, list_of, plural

_LISTED = 6
_UNRECORDED = Standing(Witness.UNKNOWN)
_RESTS_ON = {
    Witness.JUDGE: " Witness: a judge.",
    Witness.HEADS: " Witness: second heads, without a judge.",
    Witness.NONE: " Witness: none, so the cause is open.",
    Witness.UNKNOWN: "",
}


def unwitnessed(data: ReportData) -> tuple[str, ...]:
    """The audited heads that have no effects, because nobody else tells how much of their concept there is."""
    return tuple(a for a, one in data.counts.standings.items() if one.witness is Witness.NONE)


def only_responses(data: ReportData) -> bool:
    """Whether no audited head has a witness."""
    return bool(data.audited) and set(data.audited) <= set(unwitnessed(data))


def sentences(data: ReportData, mark: Mark) -> list[str]:
    """The findings by rank, a sentence each."""
    return [finding_sentence(f, mark, data.counts.standings) for f in data.conclusions.findings]


def finding_sentence(finding: Finding, mark: Mark, standings: Mapping[str, Standing]) -> str:
    """The finding as one sentence with its number, interval, n and q, and what it rests on."""
    score = "probability" if standings.get(finding.audited, _UNRECORDED).reach <= 1 else "score"
    counted = f"n = {finding.n}, {style.q_value(finding.q)}.{_RESTS_ON[finding.witness]}"
    if finding.kind is FindingKind.RESPONSE:
        return f"{_response(finding, mark)}, {counted}"
    numbers = f"{style.signed(finding.effect)} {style.interval(finding.ci_low, finding.ci_high)}"
    if finding.kind is FindingKind.JOINT:
        together = marked_members(finding.attribute, mark)
        return (
            f"{mark(finding.audited)} reacts to {together}, which cannot be told apart here: switching them on "
            f"together changes its {score} by {numbers}, {counted}"
        )
    return (
        f"{mark(finding.audited)} reacts to {mark(finding.attribute)}: switching it on changes its {score} by "
        f"{numbers}, {counted}"
    )


def _response(finding: Finding, mark: Mark) -> str:
    moves = "falls" if finding.change < 0 else "rises"
    ends = sorted(abs(end) for end in (finding.change_low, finding.change_high))
    numbers = f"{style.number(abs(finding.change))} {style.interval(*ends)}"
    return f"The score of {mark(finding.audited)} {moves} by {numbers} when {mark(finding.attribute)} is taken off"


def marked_members(attributes: str, mark: Mark) -> str:
    """The members of a group, marked: ``a & not b``."""
    return " & ".join(mark(name) if there else f"not {mark(name)}" for name, there in joint_members(attributes))


def no_finding(data: ReportData) -> str:
    """The sentence in place of findings where there are none."""
    if not data.audited:
        return "No classifier head was audited in this run, so there are no findings; the matrix holds the alignments."
    if only_responses(data):
        return (
            "No findings: on these images no other attribute's counterfactuals move an audited head clearly"
            f"{_at_least(data, 'min_response')}. These would be responses; effects need a witness."
        )
    some = " and those that cannot be told apart from it" if entangled(data) else ""
    whose = "an audited head that has a witness" if unwitnessed(data) else "an audited head"
    return (
        f"No findings: on these images no attribute but a head's own concept{some} has an effect on {whose} that "
        f"stands out from random changes (q < {ALPHA}, an interval that excludes zero{_at_least(data, 'min_effect')})."
    )


def _at_least(data: ReportData, setting: str) -> str:
    least = data.settings.get(setting)
    return f", at least {least:g} in size" if isinstance(least, int | float) and least > 0 else ""


def entangled(data: ReportData) -> dict[str, list[str]]:
    """The attributes that cannot be told apart from a head's own concept, by audited head."""
    found = {}
    for audited, standing in data.counts.standings.items():
        groups = ([name for name, _ in joint_members(group)] for group in data.counts.inseparable)
        mine = [name for group in groups if any(map(standing.about, group)) for name in group]
        if mine and standing.witness is not Witness.NONE:
            found[audited] = [name for name in mine if not standing.about(name)]
    return found


def standings(data: ReportData, mark: Mark) -> list[str]:
    """What the reader should know of the witnesses, one sentence for each kind."""
    found = data.counts.standings
    if not found:
        return [] if any(model.role in ("reference", "judge") for model in data.models) else [UNRECORDED]
    said = []
    for why, remedy in dict.fromkeys((one.reason, one.remedy) for one in found.values()):
        heads = [a for a, one in found.items() if (one.reason, one.remedy) == (why, remedy)]
        named = f"{plural(len(heads), 'head')} ({list_of(heads, mark)})"
        if found[heads[0]].witness is Witness.NONE:
            said.append(
                f"No effects for {named}, only responses: {why}. So what a counterfactual does to that concept would "
                f"be booked on other attributes. Remedy: {remedy}."
            )
        elif why:
            said.append(f"Of {named}: {why}.")
    return said


def alike(data: ReportData, mark: Mark) -> list[str]:
    """Which attributes cannot be told apart, and of which heads nothing is said therefore; of older runs those whose
    counterfactuals move each other.
    """
    if data.counts.standings:
        groups = [marked_members(group, mark) for group in data.counts.inseparable]
        many = _more(len(groups), "groups")
        told = f"These cannot be told apart on these images: {'; '.join(groups[:_LISTED])}{many}."
        joint = "" if only_responses(data) else " Only their joint effects are findings, and only by a judge of them."
        silent = [
            f"Of {mark(a)} nothing is said about {list_of(names, mark)}: not to be told apart from its own concept."
            for a, names in entangled(data).items()
        ]
        return [f"{told}{joint}", *silent] if groups else []
    pairs = [f"{mark(a)} and {mark(b)}" for a, b, _ in mutual(data.ratios, data.attributes)]
    if not pairs:
        return []
    return [
        f"Counterfactuals of {'; of '.join(pairs[:_LISTED])}{_more(len(pairs), 'pairs')} change each other by half or "
        "more, both ways: their reference heads confuse the two, or the two are one thing. Their effects cannot be "
        "told apart."
    ]


def _more(count: int, what: str) -> str:
    return f" and {count - _LISTED} more {what}" if count > _LISTED else ""


def joint_sentences(data: ReportData, audited: str, mark: Mark) -> list[str]:
    """The clear joint effects on a head, the largest first."""
    some = [j for j in data.conclusions.joint if j.audited == audited and j.clear]
    return [_joint(j, mark) for j in sorted(some, key=lambda j: -abs(j.effect))]


def _joint(j: JointEffect, mark: Mark) -> str:
    numbers = f"{style.signed(j.effect)} {style.interval(j.ci_low, j.ci_high)}"
    return f"{marked_members(j.attributes, mark)} together: {numbers}, n = {j.n}, {style.q_value(j.q)}"


@dataclass(frozen=True)
class Response:
    """Both readings of an audited head without a witness and an attribute; numbers as text."""

    attribute: str
    incoming: str
    incoming_interval: str
    outgoing: str
    outgoing_interval: str
    n: str
    q: str
    clear: bool


def responses(data: ReportData, audited: str, *, most: int) -> list[Response]:
    """The largest responses of a head to the counterfactuals of other attributes."""
    cells = {(c.base, c.downstream): c for c in data.conclusions.cells}
    rows = [c for c in data.conclusions.cells if c.downstream == audited and c.base in data.attributes]
    rows = [c for c in rows if c.base != audited and c.psi == c.psi]
    rows.sort(key=lambda c: (not c.clear, -abs(c.psi)))
    return [_row(c, cells.get((audited, c.base))) for c in rows[:most]]


def _row(incoming: Cell, outgoing: Cell | None) -> Response:
    known = outgoing is not None and outgoing.n > 0
    return Response(
        attribute=incoming.base,
        incoming=style.signed(incoming.psi),
        incoming_interval=style.interval(incoming.ci_low, incoming.ci_high),
        outgoing=style.signed(outgoing.psi) if outgoing is not None and known else style.DASH,
        outgoing_interval=style.interval(outgoing.ci_low, outgoing.ci_high) if outgoing and known else style.DASH,
        n=str(incoming.n),
        q=style.bare(incoming.q),
        clear=incoming.clear,
    )


def heads_with_responses(data: ReportData) -> Sequence[str]:
    """The shown heads without a witness, those of the largest findings first."""
    rank = {f.audited: f.rank for f in reversed(data.conclusions.findings)}
    shown = [a for a in unwitnessed(data) if a in data.shown]
    return sorted(shown, key=lambda a: rank.get(a, len(rank) + 1000))
