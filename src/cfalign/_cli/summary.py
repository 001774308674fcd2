"""What a finished audit tells on stdout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cfalign import report
from cfalign._cli.output import print_json, print_table, say
from cfalign._findings import Finding, FindingKind, UnnamedFeature, Witness
from cfalign._runs.codec import plain
from cfalign._runs.run import Run
from cfalign.datasets import Labels
from cfalign.report.correlations import concepts_in

LISTED = 5  # skipped images on the terminal; run.json has all
_HEADS = ("heads", "bases", "audited", "attributes", "judges", "controls")
_COUNTS = ("outcomes", "exclusions", "cost", "images", "skipped", "duplicates", "standings", "inseparable", "timing")


def finish(run: Run, *, as_json: bool, labels: Labels | None = None) -> None:
    """Write the report of a run, and tell what was found: as one JSON object, or for a person.

    ``labels``: of its images, and perhaps of others; those that know fewer than two of its heads are not shown.
    """
    fit = labels is not None and len(concepts_in(run, labels)) > 1
    files = report.write(run.path, labels=labels if fit else None)
    if as_json:
        record = run.record()
        kept = {key: record[key] for key in (*_HEADS, *_COUNTS)}
        kept |= {key: record[key] for key in ("inventory",) if key in record}
        print_json({"run": str(run.path), **kept, "findings": run.findings(), "unnamed": plain(run.unnamed())})
        return
    record, found = run.record(), run.found().findings
    _tell_findings(found, record)
    _tell_unnamed(run.unnamed())
    say(_counts(record))
    _tell_skipped(record["skipped"], record["images"])
    _tell_left_out(record.get("inventory"))
    for told in (_standings, _inseparable, _duplicates, _without_counterfactuals):
        for sentence in told(record):
            say(sentence)
    say(f"Report: {files['html']}")


def _tell_findings(found: Sequence[Finding], record: Mapping[str, Any]) -> None:
    """Effects and responses in a table each: what they measure differs."""
    effects = [f for f in found if f.kind is not FindingKind.RESPONSE]
    responses = [f for f in found if f.kind is FindingKind.RESPONSE]
    if effects:
        print_table(_effects(effects))
    if responses:
        print_table(_responses(responses))
    if not found and _unwitnessed(record):
        say(f"No findings: no attribute's counterfactuals move such a head clearly{_at_least(record, 'min_response')}.")
    elif not found:
        least = _at_least(record, "min_effect")
        say(f"No findings: no attribute but a head's own concept has a clear effect (q < 0.05{least}).")


def _tell_unnamed(features: Sequence[UnnamedFeature]) -> None:
    """The features without a name that count, and how many were sought."""
    if not features:
        return
    found = [f for f in features if f.found]
    if not found:
        say(f"No unnamed feature: none of the {len(features)} that were sought counts; the report tells their numbers.")
        return
    table = _table("Unnamed features: what is this? The report shows it", "feature", "effect")
    for name in ("95 % interval", "q", "explains", "of unexplained", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for rank, f in enumerate(found, start=1):
        interval = f"[{f.ci_low:+.2f}, {f.ci_high:+.2f}]"
        cells = (str(rank), f.audited, str(f.number), _signed(f.effect), interval, _q(f.q))
        table.add_row(*map(escape, cells), f"{f.explains:.0%}", f"{f.unexplained:.0%}", str(f.n))
    print_table(table)


def _at_least(record: Mapping[str, Any], setting: str) -> str:
    least = record["settings"].get(setting, 0)
    return f", at least {least:g} in size" if least else ""


def _effects(findings: Sequence[Finding]) -> Table:
    table = _table("Findings: attributes that the audited heads react to", "reacts to", "effect")
    for name in ("95 % interval", "q", "incoming", "outgoing ψ", "n", "witness"):
        table.add_column(name, justify="right", no_wrap=True)
    for f in findings:
        interval = f"[{f.ci_low:+.2f}, {f.ci_high:+.2f}]"
        readings = (_signed(f.incoming), _signed(f.outgoing))
        cells = (str(f.rank), f.audited, f.attribute, _signed(f.effect), interval, _q(f.q), *readings)
        table.add_row(*map(escape, cells), str(f.n), f.witness.value)
    return table


def _responses(findings: Sequence[Finding]) -> Table:
    """What happens to the score of a head when an attribute is taken off, whatever the cause."""
    table = _table("Responses, whose cause is open: when an attribute is taken off", "taken off", "score changes by")
    for name in ("95 % interval", "q", "incoming ψ", "outgoing ψ", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for f in findings:
        interval = f"[{f.change_low:+.2f}, {f.change_high:+.2f}]"
        readings = (_signed(f.incoming), _signed(f.outgoing))
        cells = (str(f.rank), f.audited, f.attribute, _signed(f.change), interval, _q(f.q), *readings)
        table.add_row(*map(escape, cells), str(f.n))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("#", justify="right", overflow="fold")
    table.add_column("audited head", overflow="fold")
    table.add_column(columns[0], overflow="fold")
    table.add_column(columns[1], justify="right", overflow="fold")
    return table


def _unwitnessed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The audited heads without a witness."""
    return {a: one for a, one in record.get("standings", {}).items() if one["witness"] == Witness.NONE}


def _standings(record: Mapping[str, Any]) -> list[str]:
    """Why heads have no effects and how to get them, and what to bear in mind of others; one sentence a reason."""
    found = record.get("standings", {})
    said = []
    for why, remedy in dict.fromkeys((one["reason"], one["remedy"]) for one in found.values()):
        heads = [a for a, one in found.items() if (one["reason"], one["remedy"]) == (why, remedy)]
        if found[heads[0]]["witness"] == Witness.NONE:
            said.append(f"Responses, not effects, for {_heads(heads)}: {why}. Remedy: {remedy}.")
        elif why:
            said.append(f"Of {_heads(heads)}: {why}.")
    return said


def _heads(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{len(names)} heads ({', '.join(names[:LISTED])}{' …' if len(names) > LISTED else ''})"


def _inseparable(record: Mapping[str, Any]) -> list[str]:
    """Which attributes cannot be told apart, in one sentence."""
    groups = record.get("inseparable", [])
    if not groups:
        return []
    more = f" and {len(groups) - LISTED} more groups, see run.json" if len(groups) > LISTED else ""
    named = "; ".join(groups[:LISTED])
    responses = set(record["audited"]) <= set(_unwitnessed(record))
    joint = "" if responses else ", so that only their joint effects count, by a judge"
    return [f"Cannot be told apart on these images{joint}: {named}{more}."]


def _counts(record: Mapping[str, Any]) -> str:
    """Images, counterfactuals, and how well the searches went, in one sentence."""
    cost = record["cost"]
    parts = [
        f"{record['images']} images",
        f"{cost['counterfactuals']} counterfactuals of {len(record['bases'])} bases",
    ]
    outcomes = record["outcomes"].values()
    eligible = sum(n for counts in outcomes for name, n in counts.items() if name != "not_eligible")
    if eligible:
        landed = sum(counts.get("reached", 0) + counts.get("floor", 0) for counts in outcomes)
        parts.append(f"{landed / eligible:.1%} of {eligible} searches landed")
    if cost["search_decodes_per_cf"]:
        parts.append(f"{cost['search_decodes_per_cf']:.2f} decoder passes per search")
    return f"{', '.join(parts)}."


def _tell_skipped(skipped: Sequence[Mapping[str, Any]], read: int) -> None:
    if not skipped:
        return
    say(f"Skipped {len(skipped)} of {len(skipped) + read} images:")
    for image in skipped[:LISTED]:
        say(f"  {image['image_id']}: {image['reason']}")
    if len(skipped) > LISTED:
        say(f"  … and {len(skipped) - LISTED} more, see run.json")


def _tell_left_out(inventory: Mapping[str, Any] | None) -> None:
    """What was found beside the images, kind by kind; run.json has some of the names."""
    if inventory is None or not inventory["left_out"]:
        return
    count = sum(kind["count"] for kind in inventory["left_out"])
    say(f"Left out {count} of {inventory['given']} {inventory['unit']}:")
    for kind in inventory["left_out"][:LISTED]:
        say(f"  {kind['count']} {kind['what']}: {kind['reason']}")
    if more := inventory["left_out"][LISTED:]:
        say(f"  … and {sum(kind['count'] for kind in more)} of {len(more)} more kinds, see run.json")


def _duplicates(record: Mapping[str, Any]) -> list[str]:
    """Which heads give the answer of another one, in one sentence."""
    found = [f"{d['head']} is {'1 − ' if d['complement'] else ''}{d['of']}" for d in record.get("duplicates", ())]
    if not found:
        return []
    more = f" and {len(found) - LISTED} more, see run.json" if len(found) > LISTED else ""
    return [f"Heads that give one answer count once: {', '.join(found[:LISTED])}{more}."]


def _without_counterfactuals(record: Mapping[str, Any]) -> list[str]:
    """Why no counterfactual of some bases counts: one sentence for all bases of one reason."""
    found: dict[str, list[str]] = {}
    for base in record["outcomes"]:
        if (reason := _why_none(record, base)) is not None:
            found.setdefault(reason, []).append(base)
    return [f"No counterfactual {reason.format(_some(bases))}." for reason, bases in found.items()]


def _why_none(record: Mapping[str, Any], base: str) -> str | None:
    """Why no counterfactual of a base counts, with a gap for its name; None where some do."""
    outcomes, excluded = record["outcomes"][base], record["exclusions"].get(base, {})
    examined = sum(outcomes.values())
    if examined == outcomes.get("not_eligible", 0):
        return f"for {{}}: none of {examined} images is predicted positive"
    if examined > sum(excluded.values()):
        return None
    reasons = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in excluded.items())
    return f"of {{}} counts: {reasons}"


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are; run.json has all."""
    if len(names) <= LISTED:
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{len(names)} bases ({', '.join(names[:LISTED])} … see run.json)"


def _signed(value: float) -> str:
    return f"{value:+.2f}" if math.isfinite(value) else "–"


def _q(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
