"""``cfalign benchmark references``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cfalign import benchmarks
from cfalign.benchmarks.references import QUICK, ReferencesOptions
from cfalign.cli.output import print_json, progress, say
from cfalign.figures.pixels import save_png
from cfalign.figures.references import references_figure
from cfalign.store import write_json, written


def references(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for parts, numbers and figure; a run that was stopped goes on there."),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="Folder of trained reference heads.  \\[default: planted/references in the cache]"),
    ] = None,
    workers: Annotated[int, typer.Option(help="Trainings at once, one thread each.", min=1)] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the faces and of every random draw.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="One small training set: two minutes, much noisier numbers.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with `headline` and details.")] = False,
) -> None:
    """What are effects worth when the reference heads were learnt from confounded images, and what repairs them?

    Trains reference heads on faces confounded at doses 0 to 0.9, in variants, and keeps them.
    """
    options = replace(QUICK if quick else ReferencesOptions(), seed=seed)
    out = None if out is None else out.expanduser()
    with progress() as bars:
        result = benchmarks.references(options=options, models=models, out=out, workers=workers, progress=bars)
    if out is not None:
        write_json(out / "summary.json", result.as_dict())
        with written(out / "references.png") as temporary:
            save_png(references_figure(result), temporary)
    if as_json:
        print_json(result.as_dict())
        return
    for line in result.lines():
        say(line)
    if out is not None:
        say(f"Figure: {out / 'references.png'}    numbers: {out / 'summary.json'}")
