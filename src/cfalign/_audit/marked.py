"""The marks of people as a file of relations, which ``cfalign check`` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cfalign._audit.measured import ARROW
from cfalign._runs.marks import Judgement, Mark, Opinion, Thing, judgements

_LIMITS = {Opinion.EXPECTED: "expected", Opinion.SPURIOUS: "forbidden"}


def relations_of(marks: Sequence[Mark]) -> str:
    """The file: a relation that all who marked it expect is fine at any size, one that all call spurious is forbidden.

    Relations that are unclear, or about which people differ, stand in comments: their limit is that of all others.

    >>> from cfalign._runs.marks import mark
    >>> print(relations_of([mark("relation", ["young", "gray_hair"], "expected", user="ana")]).splitlines()[-1][:33])
    "young -> gray_hair" = "expected"  #
    """
    lines = [
        "# Relations as people marked them: audited head -> attribute.",
        '# "expected": an effect of any size is fine. "forbidden": no effect beyond chance is fine.',
    ]
    for (thing, about), judgement in judgements(marks).items():
        if thing is Thing.RELATION:
            lines.append(_line(ARROW.join(about), judgement))
    return "\n".join(lines) + "\n"


def _line(name: str, judgement: Judgement) -> str:
    said = "; ".join(_said(one) for one in judgement.marks)
    quoted = json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")
    if judgement.opinion not in _LIMITS:
        why = "unclear" if judgement.opinion is Opinion.UNCLEAR else "people differ"
        return f"# {why}: {quoted}  {said}"
    return f'{quoted} = "{_LIMITS[judgement.opinion]}"  # {said}'


def _said(one: Mark) -> str:
    note = f": {one.note}" if one.note else ""
    return _plain(f"{one.opinion.value} by {one.user}, {one.time[:10]}{note}")


def _plain(text: str) -> str:
    """One line without signs that a comment of TOML must not hold."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
