"""``cfalign demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfalign._audit.demo import PLANTED, UNNAMED
from cfalign._audit.demo import demo as audit_of_planted_shortcuts
from cfalign._audit.options import AuditOptions
from cfalign._cli import flags
from cfalign._cli.configuration import chosen
from cfalign._cli.output import progress
from cfalign._cli.summary import finish
from cfalign._cli.witness import typed_command
from cfalign._runs.record import remember


def demo(
    context: typer.Context,
    out: flags.RunFolder = Path("runs/demo"),
    faces: Annotated[int, typer.Option(min=100, help="Synthetic faces to render.")] = 1000,
    limit: Annotated[int, typer.Option(min=1, help="Counterfactuals per base.")] = 60,
    seed: flags.Seed = None,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Find three planted shortcuts in embedded classifiers, one of them without a name. Nothing is downloaded."""
    given = {"limit": limit, "seed": seed, "device": device}
    settings = chosen(context, AuditOptions, config=None, assignments=None, flags=given)
    with progress() as bars:
        run = audit_of_planted_shortcuts(out, faces=faces, options=settings, progress=bars)
    made = {"demo": {"faces": faces, "seed": settings.seed}, "command": typed_command(context)}
    specs = [f"embedded:{name}" for name in (*PLANTED, UNNAMED)]
    remember(run, {**made, "classifier": specs, "autoencoder": "embedded", "reference": "embedded"})
    finish(run, as_json=as_json)
