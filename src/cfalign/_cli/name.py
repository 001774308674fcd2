"""``cfalign name``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfalign._cli import flags
from cfalign._cli.output import print_json, progress, say, show_command
from cfalign._discovery.naming import name_feature
from cfalign._models.device import on_device
from cfalign._runs.run import Run


def name(
    run: flags.Run,
    number: Annotated[int, typer.Argument(min=1, help="Number of the feature, as the report counts.")],
    what: Annotated[str, typer.Argument(metavar="NAME", help="What you see in it, such as 'corner tag'.")],
    of: Annotated[
        str | None, typer.Option(help="Audited head.  \\[default: the only one with unnamed features]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the head.  \\[default: named/NAME in that of the run]")
    ] = None,
    seed: flags.BenchmarkSeed = 0,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Give an unnamed feature a name: a small head learns to see it, and later audits take it as a reference.

    cfalign name runs/mine 1 "corner tag"
    """
    with progress() as bars, on_device(device):
        named = name_feature(Run(run), what, number=number, of=of, out=out, seed=seed, progress=bars)
    if as_json:
        aurocs = {"auroc": named.head.auroc, "judge_auroc": named.judge.auroc}
        told = {"name": named.name, "folder": str(named.folder), "of": named.feature.audited}
        print_json({**told, **aurocs, "caution": named.caution})
        return
    say(
        f"{named.name}: a head of feature {named.feature.number} of {named.feature.audited} (AUROC "
        f"{named.head.auroc:.3f} on held-out images of the run, its judge {named.judge.auroc:.3f}) in {named.folder}."
    )
    if named.caution:
        say(named.caution)
    say("Take it as one more reference wherever heads are named, for instance:")
    show_command(_audit_with(Run(run), named.folder))


def _audit_with(run: Run, head: Path) -> list[str]:
    """The audit of the run once more, with the head among its references."""
    given = run.record().get("given") or {}
    words = ["cfalign", "audit"]
    for flag in ("images", "classifier", "autoencoder", "reference"):
        specs = given.get(flag)
        for spec in [specs] if isinstance(specs, str) else specs or [flag.upper()]:
            words += [f"--{flag}", str(spec)]
    return [*words, "--reference", str(head), "--out", f"{run.path}-named"]
