"""``cfalign benchmark unnamed``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from cfalign import benchmarks
from cfalign._cli import engine as where
from cfalign._cli import flags
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.output import progress, tell_and_keep
from cfalign._models.device import on_device
from cfalign.benchmarks.unnamed import QUICK, UnnamedOptions
from cfalign.benchmarks.unnamed.drawing import unnamed_figure


def unnamed(
    context: typer.Context,
    out: flags.BenchmarkFolder = None,
    models: flags.Models = None,
    engine: where.Name = None,
    address: where.Address = None,
    workers: where.Trainers = None,
    seed: flags.BenchmarkSeed = 0,
    quick: flags.Quick = False,
    named: Annotated[
        bool, typer.Option("--named", help="Also name what is found, and audit again with the head of the name.")
    ] = False,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Are planted shortcuts found that no reference head names, and nothing where nothing is planted?"""
    refuse_conflicts(context)
    options = replace(QUICK if quick else UnnamedOptions(), seed=seed, named=named)
    out = None if out is None else out.expanduser()
    hands = where.chosen_workers(engine, address, workers)
    with progress() as bars, on_device(device):
        result = benchmarks.unnamed(options=options, models=models, out=out, workers=hands, progress=bars)
    tell_and_keep(result, lambda: unnamed_figure(result), out=out, name="unnamed", as_json=as_json)
