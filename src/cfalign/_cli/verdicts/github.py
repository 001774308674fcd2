"""The verdict of a check as workflow commands of GitHub Actions, which become annotations of a job."""

from __future__ import annotations

from cfalign._cli.verdicts.text import unmeasured
from cfalign._cli.verdicts.told import Told, feature_name, feature_numbers, numbers, relation, unlike


def workflow_commands(told: Told) -> str:
    """An error per unexpected number, a warning per feature without a name and per grave mismatch, and notices."""
    verdict = told.verdict
    lines = [
        *(_command("error", "Unexpected effect", f"{relation(o)}  {numbers(o)}") for o in verdict.unexpected),
        *(_command("warning" if m.grave else "notice", "Baseline", unlike(m)) for m in verdict.mismatches),
        *(_command("warning", "Unnamed feature", f"{feature_name(f)}  {feature_numbers(f)}") for f in told.unnamed),
        *(_command("notice", "Known effect", f"{relation(o)}  {numbers(o)}") for o in verdict.known),
        *(_command("notice", "Not measured", line) for line in unmeasured(told)),
    ]
    summary = " ".join(filter(None, (told.against, told.summary)))
    return "\n".join([*lines, _command("notice", "cfalign check", summary)])


def _command(kind: str, title: str, message: str) -> str:
    """One command. Its title is ours, and needs no escape."""
    return f"::{kind} title={title}::{escaped(message)}"


def escaped(message: str) -> str:
    """A message in which nothing ends the command or is read as a code.

    >>> escaped("50 %0A")
    '50 %250A'
    """
    return message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
