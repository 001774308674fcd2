"""The report of a run: one HTML page that opens without a network, Markdown, JSON."""

from __future__ import annotations

from pathlib import Path

from cfalign._runs.codec import write_json, write_text
from cfalign.report.data import Model, ReportData, Skipped
from cfalign.report.page import html
from cfalign.report.plain import markdown
from cfalign.report.reading import load
from cfalign.report.record import as_json

__all__ = ["Model", "ReportData", "Skipped", "as_json", "html", "load", "markdown", "write"]


def write(run_dir: Path) -> dict[str, Path]:
    """Write ``report.html``, ``report.md`` and ``report.json`` into a complete run directory.

    Each appears whole or not at all, and only after all three could be made. Returns their paths under ``html``,
    ``md``, ``json``.

    Raises:
        BadInput: the folder is no complete run of this schema (see ``load``).
        StorageFailed: the disk refused.
    """
    data = load(run_dir)
    page, text, record = html(data), markdown(data), as_json(data)
    paths = {kind: data.run_dir / f"report.{kind}" for kind in ("html", "md", "json")}
    write_text(paths["html"], page)
    write_text(paths["md"], text)
    write_json(paths["json"], record)
    return paths
