"""``cfalign benchmark semantics``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cfalign import autoencoders, benchmarks, classifiers
from cfalign._audit.bank import load_bank
from cfalign._audit.options import AuditOptions
from cfalign._cli import flags
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.inputs import asked, in_split, names_in, opened
from cfalign._cli.output import complain, progress, tell
from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadInput
from cfalign._models.device import on_device
from cfalign.benchmarks.semantics.models import trained
from cfalign.benchmarks.semantics.sheets import FOLDER, write_sheets


def semantics(
    context: typer.Context,
    images: flags.OptionalImages = None,
    labels: flags.Labels = None,
    positive: flags.Positive = None,
    uncertain: flags.Uncertain = None,
    id_column: flags.IdColumn = None,
    heads: Annotated[
        str | None,
        typer.Option(help=f"Heads whose counterfactuals are judged: {flags.MODEL}.  \\[default: trained]"),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Heads of the same attributes, of another seed and architecture.  \\[default: trained]"),
    ] = None,
    autoencoder: Annotated[
        str | None, typer.Option(help=f"Autoencoder of the images: {flags.MODEL}.  \\[default: components, trained]")
    ] = None,
    attributes: Annotated[
        str | None, typer.Option(help="Heads to judge, comma-separated.  \\[default: all that the judge knows]")
    ] = None,
    size: flags.Size = None,
    train_split: Annotated[str, typer.Option(help="What models are trained on, where none are given.")] = "train",
    split: Annotated[str, typer.Option(help="What everything is measured on.")] = "val",
    method: flags.Method = None,
    metric: flags.Metric = None,
    residual: flags.Residuals = None,
    drop: flags.Drop = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Counterfactuals per head.  \\[default: 100, or 30 with --quick]")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for models and counterfactuals of photographs; a stopped benchmark goes on.")
    ] = Path("runs/semantics"),
    seed: flags.BenchmarkSeed = 0,
    quick: flags.Quick = False,
    trust: flags.Trust = False,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Do counterfactuals change what they say they change? An independently trained judge looks at them.

    Without --images: the embedded heads on drawn faces. With them: your heads on your photographs.

    cfalign benchmark semantics --images photos/ --labels labels.csv --out runs/semantics
    """
    refuse_conflicts(context)
    asked_for = {"method": method, "metric": metric, "residual": residual, "drop": drop}
    search: dict[str, Any] = {name: value for name, value in asked_for.items() if value is not None}
    options = AuditOptions(seed=seed, limit=limit or (30 if quick else 100), search=SearchOptions(**search))
    if images is None:
        with progress() as bars, on_device(device):
            tell(benchmarks.embedded_semantics(options=options, progress=bars), as_json=as_json)
        return
    given_labels = asked(labels, positive=positive, uncertain=uncertain, id_column=id_column)
    encoder = None if autoencoder is None else autoencoders.load(autoencoder, trust=trust)
    side = size or getattr(encoder, "size", None) or 64
    source, table = opened(images, size=side, labels=given_labels)
    if table is None:
        raise BadInput("Missing --labels: these images have none of their own.")
    chosen = names_in(attributes, flag="--attributes")
    missing = None in (heads, judge, autoencoder)
    material, known = in_split(source, table, train_split if missing else None)
    judged, _ = in_split(source, table, split)
    assert known is not None
    with progress() as bars, on_device(device):
        reference, encoder = trained(
            material,
            known,
            out=out,
            size=side,
            heads=None if heads is None else classifiers.load(heads, trust=trust),
            judge=None if judge is None else classifiers.load(judge, trust=trust),
            autoencoder=encoder,
            progress=bars,
        )
        result = benchmarks.semantics(
            judged,
            reference,
            autoencoder=encoder,
            out=out / "bank",
            attributes=chosen,
            options=options,
            progress=bars,
        )
        sheets = write_sheets(load_bank(out / "bank"), out / FOLDER)
    tell(result, as_json=as_json)
    complain(f"Contact sheets of {len(sheets)} attributes: {out / FOLDER}.")
