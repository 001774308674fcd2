"""The report in a real browser: what is shown, by what it is reached, and that nothing leaves the machine."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import browser
from cfalign import report


@pytest.fixture(scope="module")
def page_of(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the report of a tiny run."""
    folder = tmp_path_factory.mktemp("browser") / "run"
    shutil.copytree(tiny_run.path, folder)
    written: Path = report.write(folder)["html"]
    return written.as_uri()


@pytest.mark.parametrize("width", browser.WIDTHS)
def test_the_page_asks_for_nothing_but_itself(chromium: Any, page_of: str, width: int) -> None:
    with browser.visiting(chromium, page_of, width=width) as visit:
        browser.keep(visit.page, f"report-{width}")
        assert [r for r in visit.requests if not r.startswith("data:")] == [page_of]


def test_a_request_that_would_leave_is_stopped_and_told(chromium: Any, tmp_path: Path) -> None:
    planted = tmp_path / "planted.html"
    planted.write_text('<!DOCTYPE html><html lang="en"><title>t</title><img src="http://example.invalid/x.png" alt="">')
    with (
        pytest.raises(AssertionError, match=r"leave the machine: \['http://example.invalid/x.png'\]"),
        browser.visiting(chromium, planted.as_uri()) as visit,
    ):
        visit.page.wait_for_load_state()
