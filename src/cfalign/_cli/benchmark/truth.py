"""``cfalign benchmark truth``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from cfalign import benchmarks, classifiers
from cfalign._cli import flags
from cfalign._cli.output import progress, tell
from cfalign._errors import BadInput
from cfalign._models.device import on_device
from cfalign._runs.codec import written


def truth(
    classifier: Annotated[
        str, typer.Option(help="A classifier of 64-pixel faces, e.g. embedded:big_lips_from_eyeglasses.")
    ],
    together: Annotated[
        list[str] | None, typer.Option(help="ATTRIBUTE:ATTRIBUTE=CORRELATION of labels on the faces; may be repeated.")
    ] = None,
    faces: Annotated[int, typer.Option(help="Rendered faces per attribute and side.")] = 100,
    seed: flags.BenchmarkSeed = 0,
    out: Annotated[Path | None, typer.Option(help="CSV of the whole matrix.")] = None,
    trust: flags.Trust = False,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """What does every attribute of rendered faces truly do to a classifier? Direct effects by intervention, and total.

    cfalign benchmark truth --classifier embedded:big_lips_from_eyeglasses --together big_lips:eyeglasses=0.9
    """
    correlations = dict(_correlation(text) for text in together or ())
    model = classifiers.load(classifier, trust=trust)
    with progress() as bars, on_device(device):
        result = benchmarks.truth(model, faces=faces, correlations=correlations, seed=seed, progress=bars)
    if out is not None:
        with written(out) as temporary:
            pl.DataFrame([vars(e) for e in result.effects]).write_csv(temporary)
    tell(result, as_json=as_json)


def _correlation(text: str) -> tuple[tuple[str, str], float]:
    names, _, value = text.partition("=")
    first, _, second = (part.strip() for part in names.partition(":"))
    try:
        return (first, second), float(value)
    except ValueError:
        raise BadInput(f"--together: expected ATTRIBUTE:ATTRIBUTE=CORRELATION, got {text!r}.") from None
