"""``cfalign benchmark nulls``."""

from __future__ import annotations

from dataclasses import replace

import typer

from cfalign import benchmarks
from cfalign._cli import engine as where
from cfalign._cli import flags
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.output import progress, tell_and_keep
from cfalign._models.device import on_device
from cfalign.benchmarks.nulls import QUICK, NullsOptions
from cfalign.benchmarks.nulls.drawing import nulls_figure


def nulls(
    context: typer.Context,
    out: flags.BenchmarkFolder = None,
    models: flags.Models = None,
    engine: where.Name = None,
    address: where.Address = None,
    workers: where.Trainers = None,
    seed: flags.BenchmarkSeed = 0,
    quick: flags.Quick = False,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Does an audit find something, named or unnamed, in classifiers with nothing to find?"""
    refuse_conflicts(context)
    options = replace(QUICK if quick else NullsOptions(), seed=seed)
    out = None if out is None else out.expanduser()
    hands = where.chosen_workers(engine, address, workers)
    with progress() as bars, on_device(device):
        result = benchmarks.nulls(options=options, models=models, out=out, workers=hands, progress=bars)
    tell_and_keep(result, lambda: nulls_figure(result), out=out, name="nulls", as_json=as_json)
