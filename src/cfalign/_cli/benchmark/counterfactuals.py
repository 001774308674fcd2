"""``cfalign benchmark counterfactuals``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from cfalign import benchmarks
from cfalign._cli import flags
from cfalign._cli.inputs import names_in
from cfalign._cli.output import progress, tell_and_keep
from cfalign.benchmarks.counterfactuals import METHODS, named
from cfalign.benchmarks.counterfactuals.drawing import methods_figure


def counterfactuals(
    seed: flags.BenchmarkSeed = 0,
    quick: flags.Quick = False,
    out: flags.BenchmarkFolder = None,
    methods: Annotated[str, typer.Option(help="Methods to compare, comma-separated.")] = ",".join(METHODS),
    as_json: flags.Json = False,
) -> None:
    """Which method makes the better counterfactuals? Judged by an oracle, by true edits of the faces, and by cost."""
    chosen = named(names_in(methods, flag="--methods") or ())
    settings = benchmarks.BenchmarkOptions(seed=seed, methods=chosen)
    if quick:
        settings = replace(settings, images=6, cout_steps=10, resamples=200)
    with progress() as bars:
        result = benchmarks.counterfactuals(options=settings, out=out, progress=bars)
    tell_and_keep(result, lambda: methods_figure(result), out=out, name="methods", as_json=as_json)
