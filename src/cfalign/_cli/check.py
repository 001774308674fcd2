"""``cfalign check``: does a run hold relations that nobody expected? Exit 1 where it does, for CI."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

import cfalign
from cfalign._audit.gate import MAX_EFFECT, Verdict, read_relations, started
from cfalign._audit.gate import check as run_check
from cfalign._audit.witness import UNRECORDED, unrecorded
from cfalign._cli import flags
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.output import complain, say
from cfalign._cli.verdicts import Format, Told, written_as
from cfalign._cli.verdicts.told import unlike
from cfalign._errors import BadInput
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
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Run of what was released before: an effect that it holds too, and that did not grow, passes.",
            show_default=False,
        ),
    ] = None,
    match: flags.Match = None,
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
    wanted: Annotated[
        Format,
        typer.Option("--format", help="How the verdict is told: for a person, or for a system that runs checks."),
    ] = Format.TEXT,
    output: Annotated[
        Path | None, typer.Option(help="File for the verdict; the text goes to stdout then.", show_default=False)
    ] = None,
    as_json: flags.Json = False,
) -> None:
    """Exit 1 and name every effect that is larger than allowed beyond chance; exit 0 where there is none.

    cfalign check runs/mine --write relations.toml

    cfalign check runs/mine --expected relations.toml --max-effect 0.15

    cfalign check runs/new --baseline runs/released --format sarif --output cfalign.sarif
    """
    refuse_conflicts(context)
    limits = None if expected is None else read_relations(expected)
    opened = Run(run)
    if unrecorded(opened.finished()):
        complain(UNRECORDED)
    verdict = run_check(
        opened,
        expected=limits,
        max_effect=max_effect,
        allow_responses=allow_responses,
        baseline=None if baseline is None else Run(baseline),
        match=matches(match),
    )
    if write is not None:
        _start(write, verdict)
        return
    told = _told(opened, verdict, max_effect)
    _tell(told, Format.JSON if as_json else wanted, output)
    for mismatch in verdict.mismatches:
        if mismatch.grave:
            complain(f"Warning: {unlike(mismatch)}.")
    if verdict.unexpected:
        sys.exit(1)


def matches(given: Sequence[str] | None) -> Mapping[str, str]:
    """Names of heads in the run before → in the run after, from ``--match OLD=NEW``."""
    found = {}
    for text in given or ():
        old, equals, new = text.partition("=")
        if not (old and equals and new) or old in found:
            raise BadInput(f"--match {text}: expected OLD=NEW, two names of audited heads, each old one once.")
        found[old] = new
    return found


def _start(file: Path, verdict: Verdict) -> None:
    if file.exists():
        raise BadInput(f"{file} exists already; name a new file, or go through it by hand.")
    write_text(file, started(verdict))
    say(f"{len(verdict.unexpected)} relations are in {file}; delete those that are not fine.")


def _told(run: Run, verdict: Verdict, max_effect: float) -> Told:
    ended = datetime.fromtimestamp((run.path / "run.json").stat().st_mtime, UTC)
    unnamed = tuple(feature for feature in run.unnamed() if feature.found)
    return Told(run.path, verdict, max_effect, unnamed, ended, cfalign.__version__)


def _tell(told: Told, wanted: Format, output: Path | None) -> None:
    """The verdict on stdout; or in a file, and for a person on stdout."""
    if output is None:
        print(written_as(told, wanted))
        return
    write_text(output, written_as(told, wanted) + "\n")
    print(written_as(told, Format.TEXT))
    say(f"The verdict is in {output} too.")
