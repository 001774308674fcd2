"""``cfalign merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cfalign
from cfalign._cli import flags
from cfalign._cli.output import print_json, say


def merge(
    parts: Annotated[list[Path], typer.Argument(help="Run folders of `--shard`.", show_default=False)],
    out: flags.RunFolder = Path("runs/merged"),
    as_json: flags.Json = False,
) -> None:
    """Put the shards of an audit or a bank that several machines made into one folder.

    cfalign merge part0 part1 part2 --out runs/whole
    """
    run = cfalign.merge(parts, out=out)
    walked = len(run.shards("responses"))
    if as_json:
        print_json({"run": str(out), "chunks": walked})
        return
    say(f"{out} holds {walked} walked chunk(s) of {len(parts)} part(s).")
    say(f"Give the command of a part again, with --out {out} and without --shard: it finishes the run.")
