"""The verdict of a check as text, JSON, JUnit, SARIF, workflow commands of GitHub, and Markdown."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from cfalign._cli.verdicts.github import workflow_commands
from cfalign._cli.verdicts.json_object import json_object
from cfalign._cli.verdicts.junit import junit
from cfalign._cli.verdicts.markdown import markdown
from cfalign._cli.verdicts.sarif import sarif
from cfalign._cli.verdicts.text import text
from cfalign._cli.verdicts.told import Told


class Format(StrEnum):
    """How a verdict is told."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    SARIF = "sarif"
    GITHUB = "github"
    MARKDOWN = "markdown"


_WRITERS: dict[Format, Callable[[Told], str]] = {
    Format.TEXT: text,
    Format.JSON: json_object,
    Format.JUNIT: junit,
    Format.SARIF: sarif,
    Format.GITHUB: workflow_commands,
    Format.MARKDOWN: markdown,
}


def written_as(told: Told, wanted: Format) -> str:
    """The verdict in one of the formats, without a line break at its end."""
    return _WRITERS[wanted](told)


__all__ = ["Format", "Told", "written_as"]
