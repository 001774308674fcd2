"""``cfalign benchmark``: claims about the method, measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cfalign import benchmarks
from cfalign.benchmarks.counterfactuals import METHODS, named
from cfalign.benchmarks.detection import QUICK as QUICK_DETECTION
from cfalign.benchmarks.detection import DetectionOptions
from cfalign.benchmarks.robustness import QUICK, RobustnessOptions
from cfalign.cli.output import print_json, progress, say
from cfalign.cli.photographs import photographs
from cfalign.cli.references import references
from cfalign.cli.truth import truth
from cfalign.figures.detection import detection_figure
from cfalign.figures.methods import methods_figure
from cfalign.figures.pixels import save_png
from cfalign.figures.robustness import robustness_figure
from cfalign.store import write_json, written

app = typer.Typer(no_args_is_help=True, help="Measure the method against known truth.")
app.command()(photographs)
app.command()(references)
app.command()(truth)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object with `headline` and details.")]
Seed = Annotated[int, typer.Option(help="Seed of the faces and of every random draw.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for parts, numbers and figure; a run that was stopped goes on there."),
]
Models = Annotated[Path | None, typer.Option(help="Folder of trained classifiers.  \\[default: planted in the cache]")]
Workers = Annotated[int, typer.Option(help="Trainings at once, one thread each.", min=1)]
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
    if out is not None:
        write_json(out / "summary.json", result.as_dict())
        save_png(detection_figure(result), out / "detection.png")
    if as_json:
        print_json(result.as_dict())
        return
    for line in result.lines():
        say(line)
    if out is not None:
        say(f"Figure: {out / 'detection.png'}    numbers: {out / 'summary.json'}")


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
    if out is not None:
        write_json(out / "result.json", result.as_dict())
        with written(out / "methods.png") as temporary:
            save_png(methods_figure(result), temporary)
    if as_json:
        print_json(result.as_dict())
        return
    for line in result.lines():
        say(line)
    if out is not None:
        say(f"Figure: {out / 'methods.png'}")


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
    options = replace(QUICK if quick else RobustnessOptions(), seed=seed)
    out = None if out is None else out.expanduser()
    with progress() as bars:
        result = benchmarks.robustness(options=options, models=models, out=out, workers=workers, progress=bars)
    if out is not None:
        write_json(out / "summary.json", result.as_dict())
        save_png(robustness_figure(result), out / "robustness.png")
    if as_json:
        print_json(result.as_dict())
        return
    for line in result.lines():
        say(line)
    if out is not None:
        say(f"Figure: {out / 'robustness.png'}    numbers: {out / 'summary.json'}")
