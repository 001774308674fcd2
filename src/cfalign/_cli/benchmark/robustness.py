"""``cfalign benchmark robustness``."""

from __future__ import annotations

from dataclasses import replace

from cfalign import benchmarks
from cfalign._cli import flags
from cfalign._cli.output import progress, tell_and_keep
from cfalign._models.device import on_device
from cfalign.benchmarks.robustness import QUICK, RobustnessOptions
from cfalign.benchmarks.robustness.drawing import robustness_figure


def robustness(
    out: flags.BenchmarkFolder = None,
    models: flags.Models = None,
    workers: flags.Workers = 2,
    seed: flags.BenchmarkSeed = 0,
    quick: flags.Quick = False,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Do effects and ψ of a shortcut follow the gap of the worst group over ERM, GroupDRO, JTT, DFR and V-REx?"""
    options = replace(QUICK if quick else RobustnessOptions(), seed=seed)
    out = None if out is None else out.expanduser()
    with progress() as bars, on_device(device):
        result = benchmarks.robustness(options=options, models=models, out=out, workers=workers, progress=bars)
    tell_and_keep(result, lambda: robustness_figure(result), out=out, name="robustness", as_json=as_json)
