"""``cfalign benchmark speed``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from cfalign import benchmarks
from cfalign._cli import flags
from cfalign._cli.inputs import names_in
from cfalign._cli.output import progress, tell_and_keep
from cfalign.benchmarks.speed.drawing import speed_figure

DEFAULT = benchmarks.SpeedOptions()


def speed(
    images: Annotated[int, typer.Option(help="Drawn faces, 2 to 200.")] = DEFAULT.images,
    bases: Annotated[
        str | None, typer.Option(help="Embedded heads that get counterfactuals, comma-separated.  \\[default: 13]")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often every contestant is timed.")] = DEFAULT.rounds,
    large: Annotated[
        bool,
        typer.Option(
            "--large/--no-large",
            help="Also networks of the paper's size with random weights: some minutes more. Needs the extra diffusers.",
        ),
    ] = False,
    seed: flags.BenchmarkSeed = 0,
    out: flags.BenchmarkFolder = None,
    as_json: flags.Json = False,
) -> None:
    """What does a counterfactual cost, beside the authors' package and beside the least that it can cost?

    Needs the authors' package for the comparison with it: pip install --no-deps latentshift
    """
    chosen = names_in(bases, flag="--bases")
    options = replace(DEFAULT, images=images, rounds=rounds, seed=seed, large=large)
    if chosen is not None:
        options = replace(options, bases=tuple(chosen))
    out = None if out is None else out.expanduser()
    with progress() as bars:
        result = benchmarks.speed(options=options, out=out, progress=bars)
    tell_and_keep(result, lambda: speed_figure(result), out=out, name="speed", as_json=as_json)
