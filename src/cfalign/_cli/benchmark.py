"""``cfalign benchmark``: claims about the method, measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cfalign import benchmarks
from cfalign._cli.output import progress, tell, tell_and_keep
from cfalign._cli.photographs import photographs
from cfalign._cli.truth import truth
from cfalign.benchmarks.counterfactuals import METHODS, named
from cfalign.benchmarks.counterfactuals.drawing import methods_figure
from cfalign.benchmarks.detection import QUICK as QUICK_DETECTION
from cfalign.benchmarks.detection import DetectionOptions
from cfalign.benchmarks.detection.drawing import detection_figure
from cfalign.benchmarks.references import QUICK as QUICK_REFERENCES
from cfalign.benchmarks.references import ReferencesOptions
from cfalign.benchmarks.references.drawing import references_figure
from cfalign.benchmarks.robustness import QUICK as QUICK_ROBUSTNESS
from cfalign.benchmarks.robustness import RobustnessOptions
from cfalign.benchmarks.robustness.drawing import robustness_figure

app = typer.Typer(no_args_is_help=True, help="Measure the method against known truth.")
app.command()(photographs)
app.command()(truth)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object with `headline` and details.")]
Seed = Annotated[int, typer.Option(help="Seed of the faces and of every random draw.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for parts, numbers and figure; a run that was stopped goes on there."),
]
Models = Annotated[Path | None, typer.Option(help="Folder of trained models.  \\[default: planted in the cache]")]
Workers = Annotated[int, typer.Option(help="Processes at once, one thread each.", min=1)]
Quick = Annotated[bool, typer.Option("--quick", help="Fewer images and models: two minutes at most, noisier numbers.")]


@app.command()
def semantics(seed: Seed = 0, quick: Quick = False, as_json: Json = False) -> None:
    """Do counterfactuals change what they say they change? An independently trained oracle looks at them."""
    with progress() as bars:
        result = benchmarks.semantics(seed=seed, images=30 if quick else 100, progress=bars)
    tell(result, as_json=as_json)


@app.command()
def detection(
    out: Out = None,
    models: Models = None,
    workers: Workers = 2,
    seed: Seed = 0,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Do effects match interventions on classifiers with planted shortcuts, and which detector tells what is used?

    The full form trains 180 classifiers first, 10 pairs at 6 doses and 3 seeds, and keeps them; --quick takes those
    that are shipped.
    """
    options = replace(QUICK_DETECTION if quick else DetectionOptions(), seed=seed)
    out = None if out is None else out.expanduser()
    with progress() as bars:
        result = benchmarks.detection(options=options, models=models, out=out, workers=workers, progress=bars)
    tell_and_keep(result, lambda: detection_figure(result), out=out, name="detection", as_json=as_json)


@app.command()
def counterfactuals(
    seed: Seed = 0,
    quick: Quick = False,
    out: Out = None,
    methods: Annotated[str, typer.Option(help="Methods to compare, comma-separated.")] = ",".join(METHODS),
    as_json: Json = False,
) -> None:
    """Which method makes the better counterfactuals? Judged by an oracle, by true edits of the faces, and by cost."""
    chosen = named([name.strip() for name in methods.split(",") if name.strip()])
    settings = benchmarks.BenchmarkOptions(seed=seed, methods=chosen)
    if quick:
        settings = replace(settings, images=6, cout_steps=10, resamples=200)
    with progress() as bars:
        result = benchmarks.counterfactuals(options=settings, out=out, progress=bars)
    tell_and_keep(result, lambda: methods_figure(result), out=out, name="methods", as_json=as_json)


@app.command()
def robustness(
    out: Out = None,
    models: Models = None,
    workers: Workers = 2,
    seed: Seed = 0,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """Do effects and ψ of a shortcut follow the gap of the worst group over ERM, GroupDRO, JTT, DFR and V-REx?"""
    options = replace(QUICK_ROBUSTNESS if quick else RobustnessOptions(), seed=seed)
    out = None if out is None else out.expanduser()
    with progress() as bars:
        result = benchmarks.robustness(options=options, models=models, out=out, workers=workers, progress=bars)
    tell_and_keep(result, lambda: robustness_figure(result), out=out, name="robustness", as_json=as_json)


@app.command()
def references(
    out: Out = None,
    models: Models = None,
    workers: Workers = 2,
    seed: Seed = 0,
    quick: Quick = False,
    as_json: Json = False,
) -> None:
    """What are effects worth when the reference heads were learnt from confounded images, and what repairs them?

    Trains reference heads on faces confounded at doses 0 to 0.9, in variants, and keeps them.
    """
    options = replace(QUICK_REFERENCES if quick else ReferencesOptions(), seed=seed)
    out = None if out is None else out.expanduser()
    with progress() as bars:
        result = benchmarks.references(options=options, models=models, out=out, workers=workers, progress=bars)
    tell_and_keep(result, lambda: references_figure(result), out=out, name="references", as_json=as_json)
