"""The report of a run: one HTML page that opens without a network, Markdown, JSON."""

from __future__ import annotations

from pathlib import Path

from cfalign._results import Skipped
from cfalign._runs.codec import write_json, write_text
from cfalign._runs.run import Run
from cfalign.report.content import Model, ReportData, load
from cfalign.report.html_page import html
from cfalign.report.json_record import as_json
from cfalign.report.markdown_text import markdown

__all__ = ["Model", "ReportData", "Skipped", "as_json", "html", "load", "markdown", "write"]


def write(run: Run | str | Path) -> dict[str, Path]:
    """Write ``report.html``, ``report.md`` and ``report.json`` into the directory of a complete run.

    ``run``: what ``audit`` returned, or the path of its directory. Each file appears whole or not at all, and only
    after all three could be made. Returns their paths under ``html``, ``md``, ``json``.

    Raises:
        BadInput: the folder is no complete run of this schema (see ``load``).
        StorageFailed: the disk refused.
    """
    data = load(run)
    page, text, record = html(data), markdown(data), as_json(data)
    paths = {kind: data.run_dir / f"report.{kind}" for kind in ("html", "md", "json")}
    write_text(paths["html"], page)
    write_text(paths["md"], text)
    write_json(paths["json"], record)
    return paths
