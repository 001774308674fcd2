"""The verdict of a check as Markdown (GitHub flavour), for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cfalign._audit.gate import Checked
from cfalign._cli.verdicts.told import Told, feature_name, feature_numbers, printable, relation, unlike
from cfalign._figures.style import bare, interval, signed

SHOWN = 20
"""Relations without a number that are named."""
_HEADER = ("", "relation", "kind", "effect", "95 % interval", "q", "n", "allowed", "baseline")


def markdown(told: Told) -> str:
    """A heading with the verdict, a table of what is beyond its limit, and what else there is to know."""
    verdict = told.verdict
    failed = "fails" if verdict.unexpected else "passes"
    parts = [f"### cfalign check {failed}", plain_text(f"{told.run}: {told.summary}")]
    rows = [*(_row("unexpected", o) for o in verdict.unexpected), *(_row("known", o) for o in verdict.known)]
    if rows:
        parts.append(_table(rows))
    parts += list(_notes(told))
    return "\n\n".join(parts)


def _table(rows: Sequence[Sequence[str]]) -> str:
    rule = ["---" if i < 3 else "---:" for i in range(len(_HEADER) - 1)] + ["---"]
    return "\n".join("| " + " | ".join(row) + " |" for row in (_HEADER, rule, *rows))


def _row(state: str, one: Checked) -> tuple[str, ...]:
    m = one.found
    values = (signed(m.value), interval(m.ci_low, m.ci_high), bare(m.q), str(m.n), f"{one.allowed:g}")
    return (f"**{state}**", name(relation(one)), m.kind.value, *values, plain_text(one.reason))


def _notes(told: Told) -> Iterator[str]:
    if told.against:
        yield plain_text(told.against)
    if told.verdict.mismatches:
        yield "\n".join(f"- {plain_text(unlike(one))}" for one in told.verdict.mismatches)
    if told.unnamed:
        yield "\n".join(f"- unnamed feature: {name(feature_name(f))}, {feature_numbers(f)}" for f in told.unnamed)
    missing = told.verdict.unmeasured
    if missing:
        shown = ", ".join(name(printable(one)) for one in missing[:SHOWN])
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        yield f"Not measured: {shown}{more}."


def name(text: str) -> str:
    """A name as code, whatever is in it; nobody is mentioned by it, and no table is broken."""
    return f"<code>{plain_text(text)}</code>"


def plain_text(text: str) -> str:
    """Text whose marks are shown, not obeyed: what Markdown or HTML could read stands as its number, and behind an @
    nobody's name follows.

    >>> plain_text("a|b @team")
    'a&#124;b &#64;<!-- -->team'
    """
    marked = re.sub(r"[!-'*:-@\[-`{-~]", lambda mark: f"&#{ord(mark.group())};", printable(text))
    return marked.replace("&#64;", "&#64;<!-- -->")
