"""Pages in a real browser: Chromium by Playwright, what a page asks for and complains of, axe-core, clipped texts.

A test takes the fixture `chromium` of `conftest.py` and opens pages by `visiting`. Where there is no browser the test
is skipped. Screenshots stay where the environment variable CFALIGN_SCREENSHOTS names a folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_HOW = "is not installed: pip install '.[dev]'"
sync_api = pytest.importorskip("playwright.sync_api", reason=f"playwright {_HOW}")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=f"axe-playwright-python {_HOW}")

WIDE, NARROW = 1280, 390
WIDTHS = (WIDE, NARROW)
"""Of a laptop and of a telephone, in px."""
SCREENSHOTS = "CFALIGN_SCREENSHOTS"
_OWN = ("file:", "data:", "blob:", "about:")
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def launched() -> Iterator[Any]:
    """The system's Chromium, else Playwright's own; the test is skipped where there is neither.

    While it runs, an event loop runs in this thread: a test that starts its own must not run in between.
    """
    with sync_api.sync_playwright() as playwright:
        system = next(filter(None, map(shutil.which, _NAMES)), None)
        if system is None and not Path(playwright.chromium.executable_path).is_file():
            pytest.skip(f"no browser: none of {', '.join(_NAMES)}, nor that of `playwright install chromium`")
        browser = playwright.chromium.launch(executable_path=system, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page, and what happened on it."""

    page: Any
    requests: list[str] = field(default_factory=list)
    """Every address that was asked for."""
    complaints: list[str] = field(default_factory=list)
    """Errors of scripts and of the console, and requests that failed."""
    left: list[str] = field(default_factory=list)
    """Requests that would have left the machine; none was let through."""


@contextmanager
def visiting(
    browser: Any, address: str, *, width: int = WIDE, dark: bool = False, own: Sequence[str] = (), **context: Any
) -> Iterator[Visit]:
    """A page at an address. At the end nothing may have been complained of, and no request may have left the machine.

    ``own``: beginnings of addresses that are of this machine, besides files: ``http://127.0.0.1:8765/``. ``context``:
    further options of Playwright's ``new_context``.
    """
    scheme = "dark" if dark else "light"
    size = {"width": width, "height": 900}
    opened = browser.new_context(**{"viewport": size, "color_scheme": scheme, "reduced_motion": "reduce", **context})
    visit = Visit(opened.new_page())
    _listen(opened, visit, (*_OWN, *own))
    try:
        visit.page.goto(address)
        yield visit
    finally:
        opened.close()
    assert not visit.left, f"requests that leave the machine: {visit.left}"
    assert not visit.complaints, f"complaints of the page: {visit.complaints}"


def _listen(opened: Any, visit: Visit, own: tuple[str, ...]) -> None:
    def gate(route: Any) -> None:
        if route.request.url.startswith(own):
            route.continue_()
        else:
            visit.left.append(route.request.url)
            route.abort()

    def spoken(message: Any) -> None:
        if message.type in ("error", "warning"):
            visit.complaints.append(f"{message.type}: {message.text}")

    opened.route("**/*", gate)
    opened.on("request", lambda request: visit.requests.append(request.url))
    opened.on("requestfailed", lambda request: visit.complaints.append(f"failed: {request.url}"))
    visit.page.on("console", spoken)
    visit.page.on("pageerror", lambda error: visit.complaints.append(f"script: {error}"))


def barriers(page: Any) -> list[str]:
    """What axe-core finds serious or critical on the page as it stands, a sentence each with the element."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


def clipped(page: Any) -> list[str]:
    """Visible texts of figures that reach out of their figure by more than a pixel, with how far."""
    found: list[str] = page.evaluate(_CLIPPED)
    return found


_CLIPPED = """() => {
  const out = [];
  for (const text of document.querySelectorAll("svg text")) {
    const inner = text.getBoundingClientRect(), outer = text.ownerSVGElement.getBoundingClientRect();
    if (!inner.width || !outer.width) continue;
    const over = Math.max(outer.left - inner.left, inner.right - outer.right, outer.top - inner.top,
                          inner.bottom - outer.bottom);
    if (over > 1) out.push(`${text.textContent}: ${over.toFixed(1)} px`);
  }
  return out;
}"""


def sideways(page: Any) -> int:
    """By how many px the page is wider than its window: more than 0 makes the reader scroll sideways."""
    wider: int = page.evaluate("() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
    return wider


def focused(page: Any) -> str:
    """What the element in focus says, of itself or by its label; empty where nothing is in focus."""
    told: str = page.evaluate(
        "() => { const e = document.activeElement;"
        " return e === document.body ? '' : e.getAttribute('aria-label') || e.textContent.trim(); }"
    )
    return told


def keep(page: Any, name: str, *, whole: bool = True) -> None:
    """A screenshot NAME.png of the page, where a folder for them is named; ``whole``: beyond the window too."""
    if folder := os.environ.get(SCREENSHOTS):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=whole)
