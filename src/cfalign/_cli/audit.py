"""``cfalign audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cfalign
from cfalign import autoencoders, classifiers
from cfalign._audit.bank import load_bank
from cfalign._audit.options import AuditOptions
from cfalign._cli import engine as where
from cfalign._cli import flags
from cfalign._cli.configuration import chosen
from cfalign._cli.inputs import asked, names_in, one_or_all, opened_for, reference_with_judge, refuse_other_groups
from cfalign._cli.output import progress, start_again
from cfalign._cli.summary import finish
from cfalign._cli.witness import given_flags, offer, typed_command
from cfalign._errors import BadInput
from cfalign._runs.record import remember
from cfalign.datasets import Labels
from cfalign.engines import using


def audit(
    context: typer.Context,
    classifier: flags.Audited,
    images: flags.OptionalImages = None,
    autoencoder: flags.OptionalAutoencoder = None,
    reference: flags.OptionalReferences = None,
    judge: flags.Judges = None,
    bank: Annotated[
        Path | None, typer.Option(help="A bank from `cfalign bank`, instead of images: forward passes only.")
    ] = None,
    bases: flags.Bases = None,
    downstream: flags.Downstream = None,
    labels: flags.AuditLabels = None,
    id_column: flags.IdColumn = None,
    split: flags.Split = None,
    group: flags.Group = None,
    out: flags.RunFolder = Path("runs/audit"),
    fresh: flags.Fresh = False,
    limit: flags.Limit = None,
    seed: flags.Seed = None,
    batch: flags.Batch = None,
    drop: flags.Drop = None,
    method: flags.Method = None,
    metric: flags.Metric = None,
    residual: flags.Residuals = None,
    strategy: flags.Strategy = None,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Let black boxes be bases too: their gradient is estimated with forward passes, two per latent "
            "dimension and image, at most 1,024.",
        ),
    ] = False,
    discover: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Also seek N features of every audited head that no reference head names.  \\[default: none]",
        ),
    ] = None,
    regions: Annotated[
        str | None,
        typer.Option(
            metavar="REGIONS",
            help="Where in the image effects lie: grid:4, or a folder of masks (NAME.png for all images, or a folder "
            "NAME with one per image).  \\[default: not split]",
        ),
    ] = None,
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
    """Audit a classifier on a folder of images: alignment matrix, effects of every attribute, findings, report.

    cfalign audit --images photos/ --classifier model.py:make --autoencoder ae/ --reference heads/ --out runs/mine
    """
    given = {
        "limit": limit,
        "seed": seed,
        "batch": batch,
        "device": device,
        "search.drop": drop,
        "search.strategy": strategy,
    }
    given |= {"search.method": method, "search.metric": metric, "search.residual": residual}
    given |= {"estimate.enabled": estimate or None, "discovery.features": discover}
    given |= {"regions.spec": regions}
    settings = chosen(context, AuditOptions, config=config, assignments=assignments, flags=given)
    crew = where.chosen_engine(engine, address, workers, shard)
    subjects = [classifiers.load(spec, trust=trust) for spec in classifier]
    heads = names_in(bases, flag="--bases")
    table = asked(labels, id_column=id_column, splits_only=True)
    known: Labels | None = None
    with progress() as bars, using(crew):
        if bank is not None:
            made = load_bank(bank)
            refuse_other_groups(made, group)
            if fresh:
                start_again(out, kept=bank)
            run = cfalign.audit(made, subjects, bases=heads, options=settings, out=out, progress=bars)
        else:
            if images is None or autoencoder is None:
                raise BadInput("An audit needs --images and --autoencoder, or --bank instead of both.")
            encoder = autoencoders.load(autoencoder, trust=trust)
            source, known = opened_for(
                encoder, images, size=size, bit_depth=bit_depth, labels=table, split=split, group=group
            )
            if fresh:
                start_again(out)
            run = cfalign.audit(
                source,
                subjects,
                autoencoder=encoder,
                reference=None if reference is None else reference_with_judge(reference, judge, trust=trust),
                bases=heads,
                downstream=names_in(downstream, flag="--downstream"),
                options=settings,
                out=out,
                progress=bars,
            )
    models = {"autoencoder": autoencoder, "classifier": classifier, "reference": one_or_all(reference), "bank": bank}
    command = typed_command(context)
    remember(run, {"images": images, "size": size, "bit_depth": bit_depth, **models, "command": command})
    if not crew.part.whole:
        where.tell_part(run, crew.part, out=out, as_json=as_json)
        return
    finish(run, as_json=as_json, labels=known)
    if reference is None and bank is None:
        offer(run, known, given=given_flags(context), shape=source.shape)
