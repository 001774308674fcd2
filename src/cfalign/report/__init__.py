"""The report of a run: one HTML page that opens without a network, Markdown, JSON, and a card for its model."""

from __future__ import annotations

import logging
from pathlib import Path

from cfalign._results import Skipped
from cfalign._runs.codec import write_json, write_text
from cfalign._runs.run import Run
from cfalign.datasets import Labels
from cfalign.report.content import Model, ReportData, load
from cfalign.report.correlations import keep_labels
from cfalign.report.html_page import html
from cfalign.report.json_record import as_json
from cfalign.report.markdown_text import markdown
from cfalign.report.mlflow_run import log_to_mlflow
from cfalign.report.model_card import model_card

_LOG = logging.getLogger(__name__)
__all__ = [
    "Model",
    "ReportData",
    "Skipped",
    "as_json",
    "html",
    "load",
    "log_to_mlflow",
    "markdown",
    "model_card",
    "write",
]


def write(run: Run | str | Path, *, labels: Labels | None = None) -> dict[str, Path]:
    """Write ``report.html``, ``report.md``, ``report.json`` and ``model_card.md`` into the directory of a complete run.

    ``run``: what ``audit`` returned, or the path of its directory. ``labels``: of its images, as ``read_labels`` makes
    them; how they correlate is kept in the run (``label_correlations.csv``) and shown beside the alignment matrix, now
    and in later reports. Each file appears whole or not at all, and only after all could be made. Returns their paths
    under ``html``, ``md``, ``json``, ``card``.

    Raises:
        BadInput: the folder is no complete run of this schema (see ``load``), or the labels know fewer than two of its
            heads, or none of its images.
        StorageFailed: the disk refused.
    """
    if labels is not None:
        keep_labels(run if isinstance(run, Run) else Run(run), labels)
    data = load(run)
    page, text, record, card = html(data), markdown(data), as_json(data), model_card(data)
    paths = {kind: data.run_dir / f"report.{kind}" for kind in ("html", "md", "json")}
    paths["card"] = data.run_dir / "model_card.md"
    write_text(paths["html"], page)
    write_text(paths["md"], text)
    write_json(paths["json"], record)
    write_text(paths["card"], card)
    _LOG.info("The report is written to %s.", paths["html"])
    return paths
