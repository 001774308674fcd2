"""What the library says: to the logger ``cfalign``, and never by print."""

from __future__ import annotations

import ast
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

import cfalign as cfa
import worlds
from cfalign._errors import ModelWarning, warn

SOURCE = Path(cfa.__file__).parent


def test_the_library_prints_nothing() -> None:
    """But for the command line, and recipes that are programs of their own."""
    printing = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        if path.relative_to(SOURCE).parts[0] != "_cli" and "recipes" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_nothing_is_written_where_nobody_listens() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("cfalign").handlers)


def test_an_audit_without_a_folder_says_where_it_wrote(caplog: pytest.LogCaptureFixture) -> None:
    given: dict[str, Any] = {"autoencoder": worlds.autoencoder(), "options": cfa.AuditOptions(limit=5)}
    with caplog.at_level(logging.INFO, logger="cfalign"):
        run = cfa.audit(worlds.images(40), worlds.heads(), **given)
    said = [record.getMessage() for record in caplog.records]
    assert f"The audit is written in {run.path}." in said
    assert any(text.startswith(f"The audit in {run.path} is complete, after ") for text in said)
    assert str(run.path) in repr(run)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="cfalign"):
        cfa.audit(worlds.images(40), worlds.heads(), out=run.path, **given)
    assert f"The audit is resumed in {run.path}." in caplog.text
    shutil.rmtree(run.path)


def test_a_report_says_where_it_is(tiny_run: cfa.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    with caplog.at_level(logging.INFO, logger="cfalign"):
        cfa.report.write(tmp_path / "run")
    assert caplog.messages == [f"The report is written to {tmp_path / 'run' / 'report.html'}."]


def test_warnings_are_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="cfalign"), pytest.warns(ModelWarning, match="It is odd"):
        warn("It is odd.", ModelWarning, stacklevel=1)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [("WARNING", "It is odd.")]
