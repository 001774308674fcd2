"""``cfalign report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfalign import report as reports
from cfalign._cli import flags
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.inputs import asked
from cfalign._cli.output import say
from cfalign._runs.run import Run


def report(
    context: typer.Context,
    run: flags.Run,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Table of the images' labels: the report shows how they correlate beside the alignment, and the run "
            "keeps that."
        ),
    ] = None,
    positive: flags.Positive = None,
    uncertain: flags.Uncertain = None,
    id_column: flags.IdColumn = None,
    mlflow: Annotated[
        bool,
        typer.Option(
            "--mlflow",
            help="Log the run to MLflow too, where MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME say; needs the extra "
            "\\[mlflow].",
        ),
    ] = False,
) -> None:
    """Write report.html, report.md, report.json and model_card.md of a run again.

    cfalign report runs/mine --labels labels.csv
    """
    refuse_conflicts(context)
    table = asked(labels, positive=positive, uncertain=uncertain, id_column=id_column)
    opened = Run(run)
    known = None if table is None else table.read(opened.scores()["image_id"].to_list())
    for kind, path in reports.write(opened, labels=known).items():
        say(f"{kind}: {path}")
    if mlflow:
        say(f"mlflow: run {reports.log_to_mlflow(run)}")
