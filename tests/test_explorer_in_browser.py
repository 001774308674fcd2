"""The explorer in a real browser: open, sort, filter, move by keyboard, open a cell, slide, mark, restart, compare."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import cfalign as cfa
import worlds
from browser import WIDTHS, barriers, clipped, keep, sideways, sync_api, visiting
from cfalign._audit.remade import AtHand
from cfalign._runs.marks import read_marks
from cfalign.datasets import ImageFolder

uvicorn = pytest.importorskip("uvicorn", reason="the extra [explore] is not installed")
pytest.importorskip("fastapi", reason="the extra [explore] is not installed")

from cfalign._explorer.app import application  # noqa: E402
from cfalign._explorer.guard import Guard  # noqa: E402
from cfalign._explorer.shelf import Shelf  # noqa: E402

expect = sync_api.expect
PAGES = {
    "findings": "/run/",
    "effects": "/run/effects",
    "matrix": "/run/matrix",
    "cell": "/run/cell?base=wearing_hat&head=friendly",
    "marks": "/run/marks",
    "try": "/run/try?base=smiling&text=smiling+%2B+wearing_hat&count=4",
    "compare": "/compare",
    "error": "/run/cell?base=nobody&head=friendly",
}


@pytest.fixture
def runs(tiny_run: cfa.Run, tmp_path: Path) -> list[cfa.Run]:
    found = []
    for name in ("run", "later"):
        shutil.copytree(tiny_run.path, tmp_path / name)
        found.append(cfa.Run(tmp_path / name))
    return found


@contextmanager
def served(runs: list[cfa.Run], images: Path) -> Iterator[str]:
    """A real server of the runs, at a free port."""
    hand = AtHand(ImageFolder(images, size=worlds.SIZE), worlds.autoencoder(), [worlds.heads(), worlds.audited()])
    app = application(Shelf([(run, lambda: hand) for run in runs]), Guard.of("127.0.0.1"))
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    ready = threading.Event()

    async def started(*_: Any, **__: Any) -> None:
        await type(server).startup(server)
        ready.set()

    server.startup = started
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def settled(page: Any) -> None:
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_is_whole_and_open_to_all(
    chromium: Any, runs: list[cfa.Run], tiny_images: Path, width: int, dark: bool
) -> None:
    image = runs[0].behind("wearing_hat", "friendly")["image_id"][0]
    more = {"walk": f"/run/walk?image={image}&base=wearing_hat", "image": f"/run/image?id={image}"}
    with served(runs, tiny_images) as address:
        for name, path in {**PAGES, **more}.items():
            if name == "error":
                continue  # its answer is an error for the console too
            with visiting(chromium, address + path, width=width, dark=dark, own=[address]) as visit:
                settled(visit.page)
                assert barriers(visit.page) == [], name
                assert clipped(visit.page) == [], name
                assert sideways(visit.page) == 0, name
                assert visit.page.locator("h1").count() == 1
                keep(visit.page, f"explorer-{name}-{width}-{'dark' if dark else 'light'}")


def test_effects_are_filtered_and_sorted(chromium: Any, runs: list[cfa.Run], tiny_images: Path) -> None:
    with (
        served(runs, tiny_images) as address,
        visiting(chromium, f"{address}/run/effects", own=[address]) as visit,
    ):
        page = visit.page
        rows = page.locator("#rows tbody tr")
        many = rows.count()
        assert many == len(worlds.TARGETS)
        assert not page.get_by_label("only more than chance").is_checked()
        page.get_by_label("Find").fill("hat")
        expect(rows).to_have_count(1)
        assert "find=hat" in page.url
        page.get_by_label("Find").fill("")
        expect(rows).to_have_count(many)
        page.get_by_role("link", name="attribute", exact=True).click()
        settled(page)
        names = [row.inner_text() for row in page.locator("#rows tbody th").all()]
        assert names == sorted(worlds.TARGETS)
        page.get_by_role("link", name="attribute ▼", exact=True).click()
        settled(page)
        assert [row.inner_text() for row in page.locator("#rows tbody th").all()] == names[::-1]
        page.go_back()
        settled(page)
        assert [row.inner_text() for row in page.locator("#rows tbody th").all()] == names


def test_the_matrix_is_walked_by_keyboard_to_a_cell(chromium: Any, runs: list[cfa.Run], tiny_images: Path) -> None:
    with served(runs, tiny_images) as address, visiting(chromium, f"{address}/run/matrix", own=[address]) as visit:
        page = visit.page
        settled(page)
        inside = "document.activeElement.closest('.grid') !== null"
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(inside):
                break
        assert page.evaluate(inside)
        first = page.evaluate("document.activeElement.dataset.words")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
        assert page.evaluate("document.activeElement.dataset.words") == first
        page.keyboard.press("ArrowDown")
        words = page.evaluate("document.activeElement.dataset.words")
        assert words != first
        assert page.locator(".readout").inner_text() == words
        page.keyboard.press("Enter")
        page.wait_for_url("**/cell?**")
        base = words.partition(" → ")[0]
        assert base in page.locator("h1").inner_text()


def test_pointing_at_a_square_tells_its_numbers(chromium: Any, runs: list[cfa.Run], tiny_images: Path) -> None:
    with served(runs, tiny_images) as address, visiting(chromium, f"{address}/run/matrix", own=[address]) as visit:
        square = visit.page.locator(".grid a").nth(3)
        square.hover()
        assert visit.page.locator(".readout").inner_text() == square.get_attribute("data-words")


def test_a_slider_walks_from_the_image_to_its_counterfactual(
    chromium: Any, runs: list[cfa.Run], tiny_images: Path
) -> None:
    with served(runs, tiny_images) as address, visiting(chromium, f"{address}{PAGES['cell']}", own=[address]) as visit:
        page = visit.page
        settled(page)
        page.locator(".card > a").first.click()
        page.wait_for_url("**/walk?**")
        settled(page)
        slider = page.get_by_role("slider")
        slider.focus()
        before = page.locator(".bars b").first.inner_text()
        shown = page.locator(".frames img.now").get_attribute("src")
        page.keyboard.press("End")
        assert "step 10 of 10" in page.locator("output").inner_text()
        assert float(page.locator(".bars b").first.inner_text()) < float(before) - 0.3
        assert page.locator(".frames img.now").get_attribute("src") != shown
        assert page.evaluate("[...document.querySelectorAll('.frames img')].every(i => i.naturalWidth > 0)")


def test_a_relation_is_marked_and_found_after_a_restart(
    chromium: Any, runs: list[cfa.Run], tiny_images: Path, tmp_path: Path
) -> None:
    with served(runs, tiny_images) as address, visiting(chromium, f"{address}{PAGES['cell']}", own=[address]) as visit:
        mark = visit.page.locator("#mark")
        mark.locator("summary").click()
        mark.get_by_label("Note").fill("hats are <b>no</b> friendliness")
        mark.get_by_label("Your name").fill("Ana")
        mark.get_by_role("button", name="Spurious").click()
        mark.get_by_text("spurious, says Ana").wait_for()
    assert [one.user for one in read_marks(runs[0].path)] == ["Ana"]
    with served(runs, tiny_images) as address, visiting(chromium, f"{address}/run/marks", own=[address]) as visit:
        assert "friendly → wearing_hat" in visit.page.locator("table").inner_text()
        assert "hats are <b>no</b> friendliness" in visit.page.locator("table").inner_text()
        with visit.page.expect_download() as started:
            visit.page.get_by_role("link", name="Download relations.toml").click()
        started.value.save_as(tmp_path / "relations.toml")
    assert cfa.read_relations(tmp_path / "relations.toml") == {"friendly -> wearing_hat": 0.0}


def test_a_mark_is_made_without_scripts_too(chromium: Any, runs: list[cfa.Run], tiny_images: Path) -> None:
    with (
        served(runs, tiny_images) as address,
        visiting(chromium, f"{address}{PAGES['cell']}", own=[address], java_script_enabled=False) as visit,
    ):
        visit.page.locator("#mark summary").click()
        visit.page.get_by_role("button", name="Expected").first.click()
        visit.page.wait_for_load_state()
        assert "/run/cell?" in visit.page.url
        assert "expected, says" in visit.page.locator("#mark").inner_text()


def test_two_runs_are_compared_from_any_page(chromium: Any, runs: list[cfa.Run], tiny_images: Path) -> None:
    with served(runs, tiny_images) as address, visiting(chromium, f"{address}/later/", own=[address]) as visit:
        visit.page.get_by_role("link", name="Compare").click()
        visit.page.get_by_role("combobox", name="What").select_option("unchanged")
        visit.page.get_by_role("button", name="Compare").click()
        settled(visit.page)
        assert visit.page.locator("tbody tr").count() == len(cfa.compare(*runs).changes)


def test_light_and_dark_are_switched_and_remembered(chromium: Any, runs: list[cfa.Run], tiny_images: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with served(runs, tiny_images) as address, visiting(chromium, f"{address}/run/", own=[address]) as visit:
        light = visit.page.evaluate(paper)
        visit.page.get_by_role("button", name="Switch between light and dark").click()
        dark = visit.page.evaluate(paper)
        assert light != dark
        visit.page.reload()
        assert visit.page.evaluate(paper) == dark
