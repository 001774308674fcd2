"""Writes docs/measurements.md, and the claims of the README, from the records in docs/measurements/.

    python docs/measurements.py                              # after a record was edited
    python docs/measurements.py detection detection.json     # takes the numbers of a benchmark's --json or summary.json

A record is a JSON file about one command: ``numbers`` by name, and ``claims``, a row of the page each, whose ``value``
and ``interval`` are format strings over these numbers. A number whose name a benchmark's ``headline`` has is taken from
there; the others are kept, and named, for a person to look at. A claim with a sentence ``readme`` stands in the README
too; that sentence is a format string over these numbers, ``value``, ``interval`` and ``over``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
RECORDS = DOCS / "measurements"
ORDER = (
    "demo",
    "semantics",
    "counterfactuals",
    "detection",
    "unnamed",
    "nulls",
    "fig4",
    "robustness",
    "photographs",
    "references",
    "rectify",
    "fig8",
    "paper",
    "speed",
    "growth",
)
"""Names of the records, as the page shows them."""
START, END = "<!-- measured: written by docs/measurements.py -->", "<!-- end of measured -->"
INTRODUCTION = """\
# What is measured

Every number that the project claims stands here: a claim a row, with what it rests on. Below each table stands the
command that repeats it.

- *95 % interval* is a dash where the number is a count, or where none was computed.
- *over* says how many classifiers, pairs or images the number is about.
- All numbers come from the full form of each command, unless the record says otherwise; `--quick` is smaller and
  noisier.

The page is written by `python docs/measurements.py` from the records in `docs/measurements/`.
"""

Record = dict[str, Any]


def records() -> dict[str, Record]:
    """All records by name."""
    return {name: json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8")) for name in ORDER}


def page(found: Mapping[str, Record]) -> str:
    """The text of docs/measurements.md."""
    return "\n".join([INTRODUCTION, *(section(record) for record in found.values())])


def section(record: Record) -> str:
    """A heading, what it is about, and a table of its claims."""
    lines = [f"## {record['title']}", "", record["about"], ""]
    if picture := record.get("picture"):
        lines += [f"![{picture['text']}]({picture['file']})", ""]
    lines += ["| claim | measured | 95 % interval | over |", "|---|---|---|---|"]
    for claim in record["claims"]:
        cells = claim["claim"], *measured(record, claim), claim.get("over", record["over"])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", f"Repeat it: `{record['command']}`. Recorded {record['recorded']}.", ""])


def measured(record: Record, claim: Mapping[str, str]) -> tuple[str, str]:
    """Value and interval of a claim, as text."""
    filled = (claim.get(part, "–").format(**record["numbers"]) for part in ("value", "interval"))
    value, interval = (re.sub(r"(?<=\d)%", " %", text) for text in filled)
    return value, interval


def readme_claims(found: Mapping[str, Record]) -> str:
    """The sentences that the README shows."""
    lines = []
    for record in found.values():
        for claim in record["claims"]:
            if "readme" in claim:
                value, interval = measured(record, claim)
                told = {
                    **record["numbers"],
                    "value": value,
                    "interval": interval,
                    "over": claim.get("over", record["over"]),
                }
                lines.append(f"- {claim['readme'].format(**told)} (`{record['command']}`)")
    return "\n".join(lines)


def in_readme(text: str, found: Mapping[str, Record]) -> str:
    """The README with its claims made anew."""
    claims = f"{START}\n{readme_claims(found)}\n{END}"
    return re.sub(f"{re.escape(START)}.*?{re.escape(END)}", lambda _: claims, text, flags=re.DOTALL)


def renew(record: Record, content: Record, name: str) -> tuple[list[str], list[str]]:
    """Takes over numbers of the same name from a ``headline``; names of those that were found, and of the others.

    ``content``: what a command printed with ``--json``, or its summary.json; that of `cfalign reproduce` holds an entry
    for every figure.
    """
    headline = content.get("headline") or content.get(name, {}).get("headline")
    if not headline:
        raise SystemExit(f"expected a JSON object with a `headline`, got the keys {', '.join(content)}")
    known = [number for number in record["numbers"] if number in headline]
    record["numbers"] |= {number: headline[number] for number in known}
    return known, [number for number in record["numbers"] if number not in known]


def main(arguments: list[str]) -> None:
    """Renews a record where one is named, then writes both pages."""
    found = records()
    if arguments:
        name, source = arguments
        known, others = renew(found[name], json.loads(Path(source).read_text(encoding="utf-8")), name)
        text = json.dumps(found[name], indent=2, ensure_ascii=False) + "\n"
        (RECORDS / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"renewed: {', '.join(known) or 'nothing'}")
        print(f"to be looked at by hand: {', '.join(others) or 'nothing'}, and the date `recorded`")
    (DOCS / "measurements.md").write_text(page(found), encoding="utf-8")
    readme = DOCS.parent / "README.md"
    readme.write_text(in_readme(readme.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
