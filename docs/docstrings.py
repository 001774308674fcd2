"""Docstrings as Markdown, for the reference of the site: mkdocs.yml names this file as an extension of griffe.

Docstrings are written for `help()`: examples begin with ``>>>``, and tables stand between rulers of ``=``. Markdown
reads the former as quotations and knows no such table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

RULER = re.compile(r"^=+(?: +=+)+$")


class Docstrings(griffe.Extension):
    """Examples become blocks of code, and tables those of Markdown."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every object that griffe has read."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """The whole docstring."""
    return "\n".join(fenced(tabled(text.splitlines())))


def fenced(lines: Iterator[str]) -> Iterator[str]:
    """Lines with a fence around every example, which ends at a blank line."""
    inside, indent = False, ""
    for line in lines:
        if not inside and line.lstrip().startswith(">>>"):
            inside, indent = True, line[: len(line) - len(line.lstrip())]
            yield from ("", f"{indent}```pycon")
        elif inside and not line.strip():
            inside = False
            yield f"{indent}```"
        yield line
    if inside:
        yield f"{indent}```"


def tabled(lines: list[str]) -> Iterator[str]:
    """Lines with every table between rulers as one of Markdown."""
    rows: list[list[str]] | None = None
    for line in lines:
        if RULER.match(line.strip()):
            if rows:
                yield from markdown_table(rows)
            rows = None if rows else []
        elif rows is None:
            yield line
        elif line.startswith(" ") and rows:
            rows[-1][1] += f" {line.strip()}"
        else:
            rows.append([cell.strip() for cell in re.split(r"  +", f"{line}  ", maxsplit=1)])


def markdown_table(rows: list[list[str]]) -> Iterator[str]:
    """A table of two columns without heads."""
    yield from ("", "| | |", "|---|---|")
    yield from (f"| {name} | {text} |" for name, text in rows)
    yield ""
