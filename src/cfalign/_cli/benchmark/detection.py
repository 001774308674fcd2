"""``cfalign benchmark detection``."""

from __future__ import annotations

from dataclasses import replace

import typer

from cfalign import benchmarks
from cfalign._cli import engine as where
from cfalign._cli import flags
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.output import progress, tell_and_keep
from cfalign._models.device import on_device
from cfalign.benchmarks.detection import QUICK, DetectionOptions
from cfalign.benchmarks.detection.drawing import detection_figure


def detection(
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
    """Do effects match interventions on classifiers with planted shortcuts, and which detector tells what is used?

    The full form trains 180 classifiers first, 10 pairs at 6 doses and 3 seeds, and keeps them; --quick audits the
    shipped ones.
    """
    refuse_conflicts(context)
    options = replace(QUICK if quick else DetectionOptions(), seed=seed)
    out = None if out is None else out.expanduser()
    hands = where.chosen_workers(engine, address, workers)
    with progress() as bars, on_device(device):
        result = benchmarks.detection(options=options, models=models, out=out, workers=hands, progress=bars)
    tell_and_keep(result, lambda: detection_figure(result), out=out, name="detection", as_json=as_json)
