"""``cfalign benchmark``: claims about the method, measured."""

from __future__ import annotations

from typing import Annotated

import typer

from cfalign import benchmarks
from cfalign.cli.output import print_json, progress, say
from cfalign.cli.photographs import photographs

app = typer.Typer(no_args_is_help=True, help="Measure the method against known truth.")
app.command()(photographs)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object with `headline` and details.")]
Seed = Annotated[int, typer.Option(help="Seed of the faces and of every random draw.")]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer images: a few minutes at most, noisier numbers.")]


@app.command()
def semantics(seed: Seed = 0, quick: Quick = False, as_json: Json = False) -> None:
    """Do counterfactuals change what they say they change? An independently trained oracle looks at them."""
    with progress() as bars:
        result = benchmarks.semantics(seed=seed, images=30 if quick else 100, progress=bars)
    if as_json:
        print_json(result.as_dict())
    else:
        for line in result.lines():
            say(line)


@app.command()
def detection(seed: Seed = 0, quick: Quick = False, as_json: Json = False) -> None:
    """Do estimated effects match interventions on classifiers with planted shortcuts, on confounded images?"""
    with progress() as bars:
        result = benchmarks.detection(seed=seed, limit=25 if quick else 80, progress=bars)
    if as_json:
        print_json(result.as_dict())
    else:
        for line in result.lines():
            say(line)
