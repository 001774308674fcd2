"""The report in a real browser: what is shown, by what it is reached, and that nothing leaves the machine.

Of one tiny run, and of one whose heads and images have names that want to be scripts, go on for ever or run leftwards.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import browser
import cfalign
import worlds
from cfalign import report
from cfalign.datasets import Labels, Leftover

NAMES = (
    "<script>alert(1)</script>",
    "a_name_of_sixty_characters_that_goes_on_and_on_and_on_to_60x",
    "وجه_مبتسم_جدا",
    "🙂👩‍👩‍👧 wide",
)
"""Targets of reference heads."""
AUDITED = '"><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module")
def page_of(tiny_run: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the report of a tiny run with labels."""
    folder = tmp_path_factory.mktemp("browser") / "run"
    shutil.copytree(tiny_run.path, folder)
    run = cfalign.Run(folder)
    ids, targets = tuple(run.scores()["image_id"].to_list()), ("smiling", "young", "wearing_hat")
    values = run.scores().select(f"image.{target}" for target in targets).to_numpy().round().astype("float64")
    nothing = Leftover(0, ())
    labels = Labels(ids, targets, values, None, {}, nothing, nothing, {})
    written: Path = report.write(run, labels=labels)["html"]
    return written.as_uri()


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """That of a run whose names are hostile; four audited heads, so that the overview of cards is there too."""
    folder = tmp_path_factory.mktemp("hostile")
    images = worlds.write_images(folder / "images", 60)
    for number, file in enumerate(sorted(images.iterdir())):
        file.rename(images / f"<script>alert({number})<'\"🙂.png")
    audited = [worlds._wrapped(worlds.LinearHeads(worlds.SHORTCUT), [AUDITED], name="W" * 60)]
    audited += [worlds._wrapped(worlds.LinearHeads(worlds.SHORTCUT * s), [f"t{s}"], name=f"n{s}") for s in (2, 3, 4)]
    run = cfalign.audit(
        images,
        audited,
        autoencoder=worlds.autoencoder(),
        reference=worlds._wrapped(worlds.LinearHeads(), NAMES, name="heads"),
        options=cfalign.AuditOptions(limit=12),
        out=folder / "run",
    )
    return report.write(run)["html"].as_uri()


@pytest.fixture(scope="module")
def pages(page_of: str, hostile_page: str) -> dict[str, str]:
    return {"report": page_of, "hostile": hostile_page}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", browser.WIDTHS)
@pytest.mark.parametrize("which", ["report", "hostile"])
def test_a_page_asks_for_nothing_and_shows_all_to_everyone(
    chromium: Any, pages: dict[str, str], which: str, width: int, dark: bool
) -> None:
    with browser.visiting(chromium, pages[which], width=width, dark=dark) as visit:
        page = visit.page
        browser.keep(page, f"{which}-{width}-{'dark' if dark else 'light'}")
        assert [r for r in visit.requests if not r.startswith("data:")] == [pages[which]]
        page.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert browser.barriers(page) == []
        assert browser.clipped(page) == []
        assert browser.sideways(page) == 0
        assert page.locator("img:not([alt])").count() == 0
        assert page.evaluate("() => document.documentElement.lang") == "en"
        levels = page.evaluate("() => [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(b <= a + 1 for a, b in pairwise(levels)), "no level is left out"


def test_names_that_want_to_be_scripts_are_text(chromium: Any, hostile_page: str) -> None:
    with browser.visiting(chromium, hostile_page) as visit:
        page = visit.page
        said = []
        page.on("dialog", lambda dialog: said.append(dialog.message) or dialog.dismiss())
        page.reload()
        assert said == []
        words = page.locator("main").text_content()
        heads = report.load(Path(unquote(urlsplit(hostile_page).path)).parent).heads
        assert {AUDITED, NAMES[0], NAMES[2]} <= set(heads)
        assert [name for name in heads if name not in words] == []
        assert page.locator("main script, img[onerror]").count() == 0


def test_the_colours_follow_the_system_and_the_button(chromium: Any, page_of: str) -> None:
    def ground(page: Any) -> str:
        colour: str = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        return colour

    with browser.visiting(chromium, page_of) as light, browser.visiting(chromium, page_of, dark=True) as dark:
        white, black = ground(light.page), ground(dark.page)
        assert white == "rgb(255, 255, 255)"
        assert black != white
        light.page.get_by_role("button", name="Dark colours").click()
        dark.page.get_by_role("button", name="Light colours").press("Enter")
        assert (ground(light.page), ground(dark.page)) == (black, white)
        assert light.page.evaluate("() => getComputedStyle(document.querySelector('svg')).filter") != "none"
        assert browser.barriers(light.page) == []
        light.page.emulate_media(media="print")
        assert ground(light.page) == white, "paper is white"


def first_column(table: Any) -> list[str]:
    found: list[str] = table.locator("tbody tr:visible th").all_inner_texts()
    return found


@pytest.mark.parametrize("width", browser.WIDTHS)
def test_a_table_is_sorted_by_the_keyboard(chromium: Any, page_of: str, width: int) -> None:
    with browser.visiting(chromium, page_of, width=width) as visit:
        table = visit.page.locator("table.effects").first
        button = table.get_by_role("button", name="attribute")
        button.press("Enter")
        assert first_column(table) == sorted(first_column(table))
        assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
        button.press("Enter")
        assert first_column(table) == sorted(first_column(table), reverse=True)
        table.get_by_role("button", name="effect").press("Space")
        values = [float(v.replace("−", "-")) for v in table.locator("tbody td:nth-child(3)").all_inner_texts()]
        assert values == sorted(values, reverse=True)
        assert table.locator("th[aria-sort]").count() == 1


def test_what_has_no_number_is_last_however_a_table_is_sorted(chromium: Any, tiny_run: Any, tmp_path: Path) -> None:
    data = report.load(tiny_run)
    nan = float("nan")
    lost = replace(data.conclusions.effects[0], effect=nan, ci_low=nan, ci_high=nan, q=nan, n=0)
    data = replace(data, conclusions=replace(data.conclusions, effects=(lost, *data.conclusions.effects[1:])))
    file = tmp_path / "page.html"
    file.write_text(report.html(data), encoding="utf-8")
    with browser.visiting(chromium, file.as_uri()) as visit:
        table = visit.page.locator("table.effects").first
        for _ in range(2):
            table.get_by_role("button", name="effect").click()
            assert table.locator("tbody tr").last.locator("td").nth(1).inner_text() == "–"


@pytest.mark.parametrize("width", browser.WIDTHS)
def test_a_head_is_found_by_typing(chromium: Any, hostile_page: str, width: int) -> None:
    with browser.visiting(chromium, hostile_page, width=width) as visit:
        cards = visit.page.locator(".cards > details:visible")
        assert cards.count() == 4
        visit.page.get_by_label("find a head").fill("T3")
        assert cards.count() == 1
        assert "t3" in cards.inner_text()


def test_a_long_table_shows_its_first_rows_and_is_filtered(chromium: Any, tiny_run: Any, tmp_path: Path) -> None:
    data = report.load(tiny_run)
    one = data.conclusions.effects[0]
    many = tuple(replace(one, attribute=f"attribute_{i:02d}", effect=i / 100) for i in range(40))
    file = tmp_path / "page.html"
    file.write_text(report.html(replace(data, conclusions=replace(data.conclusions, effects=many))), encoding="utf-8")
    with browser.visiting(chromium, file.as_uri()) as visit:
        page, table = visit.page, visit.page.locator("table.effects").first
        assert len(first_column(table)) == 16
        more = page.get_by_role("button", name="Show all 40")
        more.press("Enter")
        assert len(first_column(table)) == 40
        page.get_by_role("button", name="Show the first 16").click()
        box = page.get_by_role("searchbox").first
        box.fill("_3")
        assert first_column(table) == [f"attribute_{i}" for i in range(39, 29, -1)]
        box.fill("")
        page.emulate_media(media="print")
        assert len(first_column(table)) == 40, "nothing is hidden on paper"


@pytest.mark.parametrize("width", browser.WIDTHS)
def test_a_cell_tells_its_numbers_by_pointer_and_by_keyboard(chromium: Any, page_of: str, width: int) -> None:
    with browser.visiting(chromium, page_of, width=width) as visit:
        page, tip = visit.page, visit.page.get_by_role("tooltip")
        matrix = page.get_by_role("region", name="Alignment matrix")
        cell = matrix.get_by_label("base young → downstream smiling")
        cell.scroll_into_view_if_needed()
        cell.hover()
        assert "ψ = " in tip.inner_text()
        box = tip.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        cell.focus()
        first = tip.inner_text()
        page.keyboard.press("ArrowRight")
        assert tip.inner_text() != first
        assert browser.focused(page).startswith("base young → downstream")
        page.keyboard.press("ArrowLeft")
        assert tip.inner_text() == first
        page.keyboard.press("ArrowDown")
        assert not browser.focused(page).startswith("base young")
        page.keyboard.press("Escape")
        assert not tip.is_visible()


def test_everything_that_tells_more_is_reached_without_a_pointer(chromium: Any, page_of: str) -> None:
    """Tab goes through the page. Marks of a figure, images of a row and a table are one stop; the arrows lead on."""
    with browser.visiting(chromium, page_of) as visit:
        page = visit.page
        page.evaluate("() => document.querySelectorAll('details').forEach(d => { d.open = true; })")
        stops = page.evaluate("() => [...document.querySelectorAll('a, button, input, summary, [tabindex]')].length")
        page.evaluate(_MARK_FOCUSED)
        for _ in range(stops + 5):
            page.keyboard.press("Tab")
        assert page.evaluate(_UNREACHED) == []
        matrix = page.get_by_role("region", name="Alignment matrix")
        matrix.locator("svg [tabindex='0']").focus()
        page.keyboard.press("Home")
        reached = {browser.focused(page)}
        for _ in range(matrix.locator("[tabindex]").count()):
            page.keyboard.press("ArrowRight")
            reached.add(browser.focused(page))
        told = matrix.locator("svg [aria-label]").evaluate_all("all => all.map(c => c.getAttribute('aria-label'))")
        assert len(told) > 30
        assert set(told) <= reached


_MARK_FOCUSED = "() => document.addEventListener('focusin', e => e.target.setAttribute('data-reached', ''))"
_UNREACHED = """() => [...document.querySelectorAll('[data-tip]')].filter(node => {
  if (node.closest('summary') || !node.getClientRects().length) return false;
  const group = node.closest('.grid, tbody') || node.closest('svg');
  return group ? !group.querySelector('[data-reached]') : !node.matches('[data-reached]');
}).map(node => node.outerHTML.slice(0, 200))"""


def test_focus_is_seen(chromium: Any, page_of: str) -> None:
    with browser.visiting(chromium, page_of) as visit:
        for _ in range(12):
            visit.page.keyboard.press("Tab")
            look = visit.page.evaluate(
                "() => { const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]; }"
            )
            assert look == ["solid", "3px"], browser.focused(visit.page)


@pytest.mark.parametrize("width", browser.WIDTHS)
def test_a_cell_leads_to_its_images(chromium: Any, page_of: str, width: int) -> None:
    with browser.visiting(chromium, page_of, width=width) as visit:
        page = visit.page
        link = page.get_by_role("link", name="opens its images").first
        link.scroll_into_view_if_needed()
        link.focus()
        page.keyboard.press("Enter")
        assert page.url.endswith("#finding-1")
        strip = page.locator("#finding-1 .strip img").first
        assert strip.is_visible()
        assert strip.evaluate("image => image.complete && image.naturalWidth > 0")
        assert page.evaluate("() => document.activeElement.id") == "finding-1"


def test_images_stand_by_rising_score_in_rows(chromium: Any, page_of: str) -> None:
    with browser.visiting(chromium, page_of) as visit:
        rows = visit.page.locator(".grid")
        assert rows.count() == 3
        for row in rows.all():
            scores = [float(score) for score in row.locator("figcaption").all_inner_texts()]
            assert scores == sorted(scores)
            assert row.locator("img").count() == 8
            assert all(row.locator("img").evaluate_all("all => all.map(i => i.naturalWidth > 0)"))


def test_three_matrices_stand_side_by_side_where_there_is_room(chromium: Any, page_of: str) -> None:
    tops = {}
    for width in browser.WIDTHS:
        with browser.visiting(chromium, page_of, width=width) as visit:
            figures = visit.page.locator(".panels > figure")
            assert figures.count() == 3
            assert figures.locator("b").all_inner_texts() == [
                "Alignment ψ",
                "Correlation of predictions",
                "Correlation of labels",
            ]
            tops[width] = {round(figure.locator("svg").bounding_box()["y"]) for figure in figures.all()}
    assert len(tops[browser.WIDE]) == 1
    assert len(tops[browser.NARROW]) == 3


def test_on_paper_all_is_unfolded_and_nothing_is_a_control(chromium: Any, page_of: str, tmp_path: Path) -> None:
    with browser.visiting(chromium, page_of) as visit:
        page = visit.page
        closed = page.locator("details:not([open])").count()
        assert closed
        page.emulate_media(media="print")
        page.wait_for_function("() => !document.querySelector('details:not([open])')")
        assert page.locator("button.theme, button.copy, nav, .bar").filter(visible=True).count() == 0
        page.set_viewport_size({"width": 700, "height": 1000})
        assert browser.clipped(page) == []
        assert browser.sideways(page) == 0
        browser.keep(page, "report-print")
        page.pdf(path=tmp_path / "report.pdf", format="A4", print_background=True)
        assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
        page.emulate_media(media="screen")
        page.wait_for_function(f"() => document.querySelectorAll('details:not([open])').length === {closed}")


def test_a_command_is_copied_as_it_stands(chromium: Any, page_of: str) -> None:
    with browser.visiting(chromium, page_of, permissions=["clipboard-read", "clipboard-write"]) as visit:
        block = visit.page.locator("#next ~ ol pre.command").first
        visit.page.locator("#next ~ ol .copy").first.press("Enter")
        visit.page.get_by_text("Copied").wait_for()
        assert visit.page.evaluate("() => navigator.clipboard.readText()") == block.inner_text()
        assert block.inner_text().startswith("cfalign explore ")


def test_without_scripts_the_page_is_whole(chromium: Any, page_of: str) -> None:
    with browser.visiting(chromium, page_of, java_script_enabled=False) as visit:
        assert visit.page.locator("button").count() == 0
        assert visit.page.locator("input:visible").count() == 0
        assert visit.page.locator("table.effects tbody tr").first.is_visible()
        assert visit.page.locator("svg title").count() > 20


def test_a_request_that_would_leave_is_stopped_and_told(chromium: Any, tmp_path: Path) -> None:
    planted = tmp_path / "planted.html"
    planted.write_text('<!DOCTYPE html><html lang="en"><title>t</title><img src="http://example.invalid/x.png" alt="">')
    with (
        pytest.raises(AssertionError, match=r"leave the machine: \['http://example.invalid/x.png'\]"),
        browser.visiting(chromium, planted.as_uri()) as visit,
    ):
        visit.page.wait_for_load_state()


def test_planted_faults_are_found(chromium: Any, tmp_path: Path) -> None:
    planted = tmp_path / "planted.html"
    planted.write_text(
        '<!DOCTYPE html><html><title>t</title><div style="width: 3000px; color: #eee">pale</div>'
        '<svg width="40" height="20"><text x="30" y="12">beyond</text></svg><button></button>'
    )
    with browser.visiting(chromium, planted.as_uri()) as visit:
        assert browser.sideways(visit.page) > 1000
        assert browser.clipped(visit.page)[0].startswith("beyond: ")
        found = " ".join(browser.barriers(visit.page))
        assert all(rule in found for rule in ("html-has-lang", "button-name", "color-contrast"))
