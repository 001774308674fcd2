"""``cfalign compare``: two runs side by side; exit 1 for what must not happen, for CI."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from shlex import join
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cfalign._audit.changes import Change, ChangeKind, Comparison, Reading, Status
from cfalign._audit.comparison import MIN_DIFFERENCE
from cfalign._audit.comparison import compare as run_compare
from cfalign._cli import flags
from cfalign._cli.check import matches
from cfalign._cli.output import complain, print_json, print_table, say
from cfalign._cli.verdicts.told import printable
from cfalign._figures.style import bare, interval, signed
from cfalign._results import joint_members


class FailOn(StrEnum):
    """What must not happen."""

    NEW = "new"
    GROWN = "grown"
    ANY = "any"


FAILING = {
    FailOn.NEW: (Status.APPEARED,),
    FailOn.GROWN: (Status.APPEARED, Status.GREW),
    FailOn.ANY: (Status.APPEARED, Status.GONE, Status.GREW, Status.SHRANK),
}
CHANGED = FAILING[FailOn.ANY]
ALONE = (Status.ONLY_AFTER, Status.ONLY_BEFORE, Status.UNDEFINED)
LISTED = 5
"""Relations without a difference that are named."""


def compare(
    before: Annotated[Path, typer.Argument(help="Run directory of the earlier audit.", show_default=False)],
    after: Annotated[Path, typer.Argument(help="Run directory of the later audit.", show_default=False)],
    match: flags.Match = None,
    min_difference: Annotated[
        float, typer.Option(help="Smallest difference that counts as a change.")
    ] = MIN_DIFFERENCE,
    fail_on: Annotated[
        FailOn | None,
        typer.Option(
            help="Exit 1 where an effect appeared (new), appeared or grew (grown), or changed at all (any).",
            show_default=False,
        ),
    ] = None,
    as_json: flags.Json = False,
) -> None:
    """Which effects appeared, went, grew or shrank between two runs, beyond chance.

    cfalign compare runs/released runs/new

    cfalign compare runs/released runs/new --fail-on new
    """
    found = run_compare(before, after, match=matches(match), min_difference=min_difference)
    failing = [c for c in found.of(*FAILING[fail_on]) if c.may_fail] if fail_on else []
    if as_json:
        print_json({**found.to_dict(), "failing": [c.relation for c in failing]})
    else:
        _tell(found)
        for change in failing:
            say(f"fails (--fail-on {fail_on}): {printable(change.relation)}  {change.status.value}")
        say("Next:")
        print(_next(found))
    for mismatch in found.mismatches:
        if mismatch.grave:
            values = f"{mismatch.what}, {mismatch.before} → {mismatch.after}"
            complain(f"Warning: the numbers of both runs do not mean the same: {values}: {mismatch.meaning}.")
    if failing:
        sys.exit(1)


def _tell(found: Comparison) -> None:
    changed = found.of(*CHANGED)
    if changed:
        print_table(_table(changed))
    for sentence in (*_heads(found), *_conditions(found), *_alone(found), _counts(found)):
        say(printable(sentence))


def _table(changes: Sequence[Change]) -> Table:
    table = Table(title="What changed beyond chance", title_justify="left", box=SIMPLE_HEAD)
    for name in ("", "audited head", "reacts to"):
        table.add_column(name, overflow="fold")
    for name in ("before", "after", "difference", "q", "n"):
        table.add_column(name, justify="right", overflow="fold")
    for c in changes:
        difference = f"{signed(c.difference)} {interval(c.ci_low, c.ci_high)}"
        readings = (_reading(c.before), _reading(c.after), difference, bare(c.q), f"{c.before.n}, {c.after.n}")
        cells = (c.status.value, c.audited, _what(c), *readings)
        table.add_row(*(escape(printable(cell)) for cell in cells))
    return table


def _what(change: Change) -> str:
    kind = "" if change.kind is ChangeKind.EFFECT else f" ({change.kind.value})"
    return f"{change.attribute}{kind}{' (its own concept)' if change.own else ''}"


def _reading(reading: Reading) -> str:
    return f"{signed(reading.value)} {interval(reading.ci_low, reading.ci_high)}"


def _heads(found: Comparison) -> list[str]:
    """Which heads were held against each other under another name, and which were not at all."""
    said = [
        f"{h.before} is held against {h.after}, matched by {h.by}." for h in found.heads if h.by not in ("name", "")
    ]
    said += [f"Only after: the head {h.after}; --match OLD={h.after} matches it." for h in found.heads if not h.before]
    return said + [f"Only before: the head {h.before}." for h in found.heads if not h.after]


def _conditions(found: Comparison) -> list[str]:
    """What differs between the runs beside the classifiers, and whether these differ."""
    said = [f"Other {m.what}, {m.before} → {m.after}: {m.meaning}." for m in found.mismatches]
    if found.same_classifiers:
        said.append("The audited classifiers are the same, to the last weight.")
    return said


def _alone(found: Comparison) -> list[str]:
    """Relations without a difference, by reason."""
    said = []
    alone = [c for c in found.of(*ALONE) if c.kind is not ChangeKind.GAP]
    for status, reason in dict.fromkeys((c.status, c.reason) for c in alone):
        names = [c.relation for c in alone if (c.status, c.reason) == (status, reason)]
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        said.append(f"{status.value.capitalize()}, since {reason}: {', '.join(names[:LISTED])}{more}.")
    return said


def _counts(found: Comparison) -> str:
    effects = [c for c in found.changes if c.kind is not ChangeKind.GAP]
    gaps = len(found.changes) - len(effects)
    counts = [f"{n} {status.value}" for status in Status if (n := sum(c.status is status for c in effects))]
    beside = f"; beside them {gaps} group gaps" if gaps else ""
    least = f"A change is a difference with q < 0.05 of at least {found.min_difference:g}"
    return f"{len(effects)} relations: {', '.join(counts) or 'none'}{beside}. {least}."


def _next(found: Comparison) -> str:
    """The command that shows the images behind the first change for the worse, or else checks the later run."""
    worse = [c for c in found.of(Status.APPEARED, Status.GREW) if c.may_fail]
    shown = [c for c in worse if c.kind is not ChangeKind.UNNAMED]
    if shown:
        base = joint_members(shown[0].attribute)[0][0] if shown[0].kind is ChangeKind.JOINT else shown[0].attribute
        return join(["cfalign", "query", found.after, "--base", base, "--downstream", shown[0].audited])
    if worse:
        return join(["cfalign", "report", found.after])
    return join(["cfalign", "check", found.after, "--baseline", found.before])
