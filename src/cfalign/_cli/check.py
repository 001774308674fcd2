"""``cfalign check``: does a run hold relations that nobody expected? Exit 1 where it does, for CI."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cfalign._audit.gate import MAX_EFFECT, Unexpected, Verdict, read_relations, started
from cfalign._audit.gate import check as run_check
from cfalign._audit.witness import UNRECORDED, unrecorded
from cfalign._cli import flags
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.output import complain, print_json, say
from cfalign._errors import BadInput
from cfalign._figures.style import interval, q_value, signed
from cfalign._findings import FindingKind
from cfalign._runs.codec import write_text
from cfalign._runs.run import Run


def check(
    context: typer.Context,
    run: flags.Run,
    expected: Annotated[
        Path | None,
        typer.Option(help='TOML of relations that are fine: heavy_makeup -> wearing_lipstick = "expected".'),
    ] = None,
    max_effect: Annotated[float, typer.Option(help="Largest |effect| of a relation that is not named.")] = MAX_EFFECT,
    write: Annotated[
        Path | None, typer.Option(help="Start such a file from what this run holds, for a person to go through.")
    ] = None,
    allow_responses: Annotated[
        bool,
        typer.Option(
            "--allow-responses",
            help="Compare heads without a witness by their responses (incoming ψ, if the outgoing one agrees), whose "
            "cause is open; otherwise such a run is refused.",
        ),
    ] = False,
    as_json: flags.Json = False,
) -> None:
    """Exit 1 and name every effect that is larger than allowed beyond chance; exit 0 where there is none.

    cfalign check runs/mine --write relations.toml

    cfalign check runs/mine --expected relations.toml --max-effect 0.15
    """
    refuse_conflicts(context)
    limits = None if expected is None else read_relations(expected)
    if unrecorded(Run(run).finished()):
        complain(UNRECORDED)
    verdict = run_check(Run(run), expected=limits, max_effect=max_effect, allow_responses=allow_responses)
    if write is not None:
        if write.exists():
            raise BadInput(f"{write} exists already; name a new file, or go through it by hand.")
        write_text(write, started(verdict))
        say(f"{len(verdict.unexpected)} relations are in {write}; delete those that are not fine.")
        return
    unnamed = [f"{f.number} of {f.audited}" for f in Run(run).unnamed() if f.found]
    if as_json:
        print_json({**_content(run, verdict), "unnamed": unnamed})
    else:
        _tell(verdict, max_effect)
        if unnamed:
            say(
                f"Unnamed features, which no limit holds until they have a name (`cfalign name`): {'; '.join(unnamed)}."
            )
    if verdict.unexpected:
        sys.exit(1)


def _content(run: Path, verdict: Verdict) -> dict[str, Any]:
    found = [{**asdict(u.found), "relation": u.found.names[0], "allowed": u.allowed} for u in verdict.unexpected]
    counts = {"checked": verdict.checked, "responses": verdict.responses}
    return {"run": str(run), **counts, "unexpected": found, "unmeasured": list(verdict.unmeasured)}


def _tell(verdict: Verdict, max_effect: float) -> None:
    for found in verdict.unexpected:
        say(f"unexpected: {_line(found)}")
    if verdict.unmeasured:
        say(f"not measured: {len(verdict.unmeasured)} relations, e.g. {verdict.unmeasured[0]}")
    what = "effects" if not verdict.responses else f"numbers ({verdict.responses} responses, whose cause is open)"
    say(
        f"{len(verdict.unexpected)} of {verdict.checked} {what} are unexpected (limit {max_effect:g} where none is "
        "named)."
    )


def _line(unexpected: Unexpected) -> str:
    m = unexpected.found
    kind = "" if m.kind is FindingKind.EFFECT else f"{m.kind.value} "
    numbers = f"{signed(m.value)} {interval(m.ci_low, m.ci_high)}, {q_value(m.q)}, n {m.n}"
    return f"{m.names[0]}  {kind}{numbers}, allowed {unexpected.allowed:g}"
