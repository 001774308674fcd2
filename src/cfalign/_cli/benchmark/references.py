"""``cfalign benchmark references``."""

from __future__ import annotations

from dataclasses import replace

import typer

from cfalign import benchmarks
from cfalign._cli import engine as where
from cfalign._cli import flags
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.output import progress, tell_and_keep
from cfalign._models.device import on_device
from cfalign.benchmarks.references import QUICK, ReferencesOptions
from cfalign.benchmarks.references.drawing import references_figure


def references(
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
    """What are effects worth when the reference heads were learnt from confounded images, and what repairs them?

    Trains reference heads on faces confounded at doses 0 to 0.9, in variants, and keeps them.
    """
    refuse_conflicts(context)
    options = replace(QUICK if quick else ReferencesOptions(), seed=seed)
    out = None if out is None else out.expanduser()
    hands = where.chosen_workers(engine, address, workers)
    with progress() as bars, on_device(device):
        result = benchmarks.references(options=options, models=models, out=out, workers=hands, progress=bars)
    tell_and_keep(result, lambda: references_figure(result), out=out, name="references", as_json=as_json)
