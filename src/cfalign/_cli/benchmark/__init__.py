"""``cfalign benchmark``: claims about the method, measured."""

from __future__ import annotations

import typer

from cfalign._cli.benchmark.counterfactuals import counterfactuals
from cfalign._cli.benchmark.detection import detection
from cfalign._cli.benchmark.nulls import nulls
from cfalign._cli.benchmark.photographs import photographs
from cfalign._cli.benchmark.references import references
from cfalign._cli.benchmark.robustness import robustness
from cfalign._cli.benchmark.semantics import semantics
from cfalign._cli.benchmark.speed import speed
from cfalign._cli.benchmark.truth import truth
from cfalign._cli.benchmark.unnamed import unnamed

app = typer.Typer(no_args_is_help=True, help="Measure the method against known truth.")
for command in (
    semantics,
    counterfactuals,
    detection,
    robustness,
    photographs,
    references,
    truth,
    unnamed,
    nulls,
    speed,
):
    app.command()(command)

__all__ = ["app"]
