"""``cfalign report``."""

from __future__ import annotations

from cfalign import report as reports
from cfalign._cli import flags
from cfalign._cli.output import say


def report(run: flags.Run) -> None:
    """Write report.html, report.md and report.json of a run again."""
    for kind, path in reports.write(run).items():
        say(f"{kind}: {path}")
