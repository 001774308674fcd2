"""``cfalign bank``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import cfalign
from cfalign import autoencoders
from cfalign._audit.options import AuditOptions
from cfalign._cli import engine as where
from cfalign._cli import flags
from cfalign._cli.configuration import chosen
from cfalign._cli.inputs import asked, names_in, opened_for, reference_with_judge
from cfalign._cli.output import print_json, progress, say, start_again
from cfalign.engines import using


def bank(
    context: typer.Context,
    images: flags.Images,
    reference: flags.References,
    autoencoder: flags.Autoencoder,
    judge: flags.Judges = None,
    attributes: Annotated[
        str | None, typer.Option(help="Heads that get counterfactuals, comma-separated.  \\[default: all]")
    ] = None,
    labels: flags.SplitTable = None,
    id_column: flags.IdColumn = None,
    split: flags.Split = None,
    group: flags.Group = None,
    out: flags.RunFolder = Path("runs/bank"),
    fresh: flags.Fresh = False,
    limit: flags.Limit = None,
    seed: flags.Seed = None,
    batch: flags.Batch = None,
    drop: flags.Drop = None,
    method: flags.Method = None,
    metric: flags.Metric = None,
    residual: flags.Residuals = None,
    size: flags.Size = None,
    bit_depth: flags.BitDepth = None,
    trust: flags.Trust = False,
    engine: where.Name = None,
    address: where.Address = None,
    workers: where.Workers = None,
    shard: where.Shard = None,
    config: flags.Config = None,
    assignments: flags.Set = None,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Make counterfactuals of trusted heads once; `cfalign audit --bank` then audits any model by forward passes."""
    given: dict[str, Any] = {"limit": limit, "seed": seed, "batch": batch, "device": device, "search.drop": drop}
    given |= {"search.method": method, "search.metric": metric, "search.residual": residual}
    settings = chosen(context, AuditOptions, config=config, assignments=assignments, flags=given)
    crew = where.chosen_engine(engine, address, workers, shard)
    encoder = autoencoders.load(autoencoder, trust=trust)
    table = asked(labels, id_column=id_column, splits_only=True)
    with progress() as bars, using(crew):
        source, _ = opened_for(encoder, images, size=size, bit_depth=bit_depth, labels=table, split=split, group=group)
        if fresh:
            start_again(out)
        made = cfalign.bank(
            source,
            reference_with_judge(reference, judge, trust=trust),
            autoencoder=encoder,
            attributes=names_in(attributes, flag="--attributes"),
            options=settings,
            out=out,
            progress=bars,
        )
    if not crew.part.whole:
        where.tell_part(made.run, crew.part, out=out, as_json=as_json)
        return
    if as_json:
        print_json({"bank": str(out), "heads": list(made.heads), "attributes": list(made.attributes)})
        return
    say(f"Bank of {len(made.attributes)} attributes in {out}.")
    say(f"Audit any model with: cfalign audit --bank {out} --classifier …")
