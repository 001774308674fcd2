"""``cfalign benchmark photographs``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cfalign import autoencoders, benchmarks, classifiers
from cfalign._cli import engine as where
from cfalign._cli import flags
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.inputs import asked, numbers_in, opened
from cfalign._cli.output import progress, tell_and_keep
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign._models.device import on_device
from cfalign.benchmarks.photographs import DOSES, PAIRS, QUICK
from cfalign.benchmarks.photographs.drawing import photographs_figure


def photographs(
    context: typer.Context,
    images: flags.Images,
    reference: flags.Reference,
    autoencoder: flags.Autoencoder,
    judge: Annotated[
        str | None,
        typer.Option(help="Independently trained heads of the same attributes; they measure how far each moved."),
    ] = None,
    labels: flags.Labels = None,
    positive: flags.Positive = None,
    uncertain: flags.Uncertain = None,
    id_column: flags.IdColumn = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(help=f"TARGET:CONFOUNDER; may be repeated.  \\[default: {', '.join(map(':'.join, PAIRS))}]"),
    ] = None,
    doses: Annotated[
        str | None,
        typer.Option(help=f"Correlations, comma-separated.  \\[default: {','.join(f'{d:g}' for d in DOSES)}]"),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Comma-separated; one classifier each.  \\[default: 0,1]")] = None,
    train_split: Annotated[str, typer.Option(help="What the classifiers are trained on.")] = "train",
    split: Annotated[str, typer.Option(help="What everything is measured on.")] = "val",
    residual: flags.Residuals = None,
    limit: Annotated[int | None, typer.Option(help="Counterfactuals per reference head.  \\[default: 150]")] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for classifiers, bank and result; a stopped benchmark goes on.")
    ] = Path("runs/photographs"),
    engine: where.Name = None,
    address: where.Address = None,
    workers: where.Trainers = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bank and of every other random draw.")] = 0,
    quick: flags.Quick = False,
    trust: flags.Trust = False,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Do effects rank classifiers trained on confounded photographs as their worst-group gaps do?

    cfalign benchmark photographs --images celeba:FOLDER --reference heads/ --autoencoder ae/ --out runs/photographs
    """
    refuse_conflicts(context)
    chosen: dict[str, Any] = {
        "pairs": None if not pair else tuple(map(_pair, pair)),
        "doses": None if doses is None else tuple(numbers_in(doses, float, flag="--doses")),
        "seeds": None if seeds is None else tuple(numbers_in(seeds, int, flag="--seeds")),
        "limit": limit,
        "residual": residual,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    settings = replace(
        QUICK if quick else benchmarks.PhotographsOptions(),
        train_split=train_split,
        split=split,
        seed=seed,
        **given,
    )
    encoder = autoencoders.load(autoencoder, trust=trust)
    heads = Reference(
        classifiers.load(reference, trust=trust), None if judge is None else classifiers.load(judge, trust=trust)
    )
    given_labels = asked(labels, positive=positive, uncertain=uncertain, id_column=id_column)
    source, table = opened(images, size=getattr(encoder, "size", None), labels=given_labels)
    if table is None:
        raise BadInput("Missing --labels: these images have none of their own.")
    hands = where.chosen_workers(engine, address, workers)
    with progress() as bars, on_device(device):
        result = benchmarks.photographs(
            source,
            table,
            reference=heads,
            autoencoder=encoder,
            out=out,
            options=settings,
            workers=hands,
            progress=bars,
        )
    tell_and_keep(result, lambda: photographs_figure(result), out=out, name="photographs", as_json=as_json)


def _pair(text: str) -> tuple[str, str]:
    target, colon, confounder = (part.strip() for part in text.partition(":"))
    if not (target and colon and confounder):
        raise BadInput(f"--pair: expected TARGET:CONFOUNDER, e.g. smiling:male, got {text!r}.")
    return target, confounder
