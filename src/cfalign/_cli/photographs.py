"""``cfalign benchmark photographs``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cfalign import autoencoders, benchmarks, classifiers
from cfalign._cli.data import IMAGES, LABELS, opened
from cfalign._cli.output import progress, tell_and_keep
from cfalign._cli.settings import Trust
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign.benchmarks.photographs import DOSES, PAIRS, QUICK
from cfalign.benchmarks.photographs.drawing import photographs_figure

Number = TypeVar("Number", int, float)


def photographs(
    images: Annotated[str, typer.Option(help=IMAGES, show_default=False)],
    reference: Annotated[str, typer.Option(help="Attribute heads, e.g. a folder from `cfalign train classifier`.")],
    autoencoder: Annotated[str, typer.Option(help="Autoencoder, e.g. a folder from `cfalign train autoencoder`.")],
    judge: Annotated[
        str | None,
        typer.Option(help="Independently trained heads of the same attributes; they say how far those moved."),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help=LABELS, show_default=False)] = None,
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
    limit: Annotated[int | None, typer.Option(help="Counterfactuals per reference head.  \\[default: 150]")] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for classifiers, bank and result; a stopped benchmark goes on.")
    ] = Path("runs/photographs"),
    workers: Annotated[int, typer.Option(min=1, help="Classifiers trained at a time, one thread each.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bank and of every other random draw.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two pairs, fewer images: two minutes, noisier numbers.")
    ] = False,
    trust: Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with `headline` and details.")] = False,
) -> None:
    """Do effects rank classifiers trained on confounded photographs as their worst-group gaps do?

    cfalign benchmark photographs --images celeba:FOLDER --reference heads/ --autoencoder ae/ --out runs/photographs
    """
    chosen: dict[str, Any] = {
        "pairs": None if not pair else tuple(map(_pair, pair)),
        "doses": None if doses is None else tuple(_numbers(doses, "--doses", float)),
        "seeds": None if seeds is None else tuple(_numbers(seeds, "--seeds", int)),
        "limit": limit,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    settings = replace(
        QUICK if quick else benchmarks.PhotographsOptions(), train_split=train_split, split=split, seed=seed, **given
    )
    encoder = autoencoders.load(autoencoder, trust=trust)
    heads = Reference(
        classifiers.load(reference, trust=trust), None if judge is None else classifiers.load(judge, trust=trust)
    )
    source, table = opened(images, size=getattr(encoder, "size", None), labels=labels)
    if table is None:
        raise BadInput("Missing --labels: these images bring none of their own.")
    with progress() as bars:
        result = benchmarks.photographs(
            source, table, reference=heads, autoencoder=encoder, out=out, options=settings, workers=workers,
            progress=bars,
        )  # fmt: skip
    tell_and_keep(result, lambda: photographs_figure(result), out=out, name="photographs", as_json=as_json)


def _pair(text: str) -> tuple[str, str]:
    target, colon, confounder = (part.strip() for part in text.partition(":"))
    if not (target and colon and confounder):
        raise BadInput(f"--pair expects TARGET:CONFOUNDER, e.g. smiling:male; got {text!r}.")
    return target, confounder


def _numbers(text: str, flag: str, kind: Callable[[str], Number]) -> list[Number]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise BadInput(f"{flag} expects {what} separated by commas, got {text!r}.") from None
