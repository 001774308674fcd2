"""The documentation site: it builds without a warning, shows every public name, and asks no other host for anything."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import cfalign as cfa

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")

pytestmark = pytest.mark.docs

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.append(str(DOCS))

import docstrings  # noqa: E402
import pages  # noqa: E402

LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}
"""Elements that a browser loads by themselves, and the attribute that names what; of links see `Loads`."""
LOADED_LINKS = {"stylesheet", "icon", "preload", "prefetch", "preconnect", "dns-prefetch", "modulepreload", "manifest"}


class Loads(HTMLParser):
    """What a page makes a browser load, and the styles that it holds itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._inside = tag
        self.texts.append(values.get("style", ""))
        if tag in LOADED:
            self.addresses.append(values.get(LOADED[tag], ""))
        if tag == "link" and LOADED_LINKS & set(values.get("rel", "").split()):
            self.addresses.append(values.get("href", ""))
        self.addresses += [part.split()[0] for part in values.get("srcset", "").split(",") if part.split()]

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.texts.append(data)


def loaded(page: Path) -> list[str]:
    """All addresses that a page, or a style sheet, makes a browser ask for."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".css":
        return styled(text)
    found = Loads()
    found.feed(text)
    return [*found.addresses, *(address for style in found.texts for address in styled(style))]


def styled(text: str) -> list[str]:
    """The addresses in a style sheet."""
    return re.findall(r"""(?:url\(|@import )\s*["']?([^"')\s]+)""", text)


@pytest.fixture(scope="module")
def sample(tiny_run: cfa.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with its report."""
    folder = tmp_path_factory.mktemp("sample") / "run"
    shutil.copytree(tiny_run.path, folder)
    cfa.report.write(folder)
    return folder


def built(into: Path, sample: Path) -> subprocess.CompletedProcess[str]:
    """`mkdocs build --strict`, for which warnings are errors."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(into)]
    surroundings = {**os.environ, "CFALIGN_SAMPLE": str(sample), "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("fastapi", reason="the extra [explore] is not installed")
    import explorer_sample

    explorer_sample.write(cfa.Run(sample), None)
    folder = tmp_path_factory.mktemp("site") / "site"
    done = built(folder, sample)
    assert done.returncode == 0, done.stderr
    return folder


def pages_of(site: Path) -> Iterator[Path]:
    """The pages that the site is made of; the sample report has tests of its own."""
    yield from (page for page in sorted(site.rglob("*.html")) if page.parent.name != "sample")


def test_every_page_of_the_folder_is_on_the_site(site: Path) -> None:
    written = {path.stem for path in DOCS.glob("*.md")}
    assert written <= {page.stem for page in pages_of(site)}
    assert not list(site.rglob("*.py"))
    assert not list(site.rglob("measurements/*.json"))


def test_no_page_asks_another_host_for_anything(site: Path) -> None:
    asked = {
        (str(file.relative_to(site)), address)
        for file in [*site.rglob("*.html"), *site.rglob("*.css")]
        for address in loaded(file)
        if re.match(r"(?:[a-z]+:)?//", address)
    }
    assert not asked


def test_scripts_of_the_site_name_no_font_and_no_library_of_another_host(site: Path) -> None:
    for page in pages_of(site):
        assert not re.search(r"fonts\.g|unpkg|jsdelivr|cdnjs|mathjax|katex", page.read_text("utf-8"), re.IGNORECASE), (
            page
        )


def test_what_a_page_loads_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<link rel="preconnect" href="https://a"><link rel="canonical" href="https://no"><a href="https://no"></a>'
        '<script src="//b/x.js"></script><img src="https://c/i.png" srcset="https://d/i.png 2x">'
        "<style>@import 'https://e/s.css'; p { background: url(https://f/p.png) }</style>"
    )
    assert sorted(loaded(page)) == [
        "//b/x.js",
        "https://a",
        "https://c/i.png",
        "https://d/i.png",
        "https://e/s.css",
        "https://f/p.png",
    ]


def test_what_a_page_loads_is_there(site: Path) -> None:
    for page in pages_of(site):
        for address in loaded(page):
            if address and not address.startswith(("data:", "/")):
                assert (page.parent / address.partition("?")[0].partition("#")[0]).exists(), f"{page}: {address}"


@pytest.mark.parametrize("room", pages.ROOMS)
def test_the_reference_has_every_public_name(site: Path, room: str) -> None:
    module = "cfalign" if room == "cfalign" else f"cfalign.{room}"
    text = (site / "reference" / f"{room}.html").read_text(encoding="utf-8")
    names = [name for name in importlib.import_module(module).__all__ if name not in pages.ROOMS and name[0] != "_"]
    assert names
    missing = [name for name in names if f'id="{pages.path_of(module, name)}"' not in text]
    assert not missing
    assert "doc-symbol-module" not in text  # a name that is also that of a file is still the function
    assert "&gt;&gt;&gt;" not in re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL)  # examples stand in blocks


def test_the_reference_has_every_public_room() -> None:
    modules = (name for name in cfa.__all__ if hasattr(getattr(cfa, name), "__path__"))
    assert {"cfalign", *modules} == set(pages.ROOMS)


def test_the_sample_of_the_explorer_is_whole_on_its_own(site: Path) -> None:
    text = (site / "sample" / "explorer.html").read_text(encoding="utf-8")
    places = set(re.findall(r'<section id="(page-\d+)"', text))
    assert set(re.findall(r'href="#([^"]*)"', text)) <= places
    assert len(places) >= 5
    assert not re.findall(r'(?:href|src)="(?!#|data:)', text)
    assert "<form" not in text
    assert "sample/explorer.html" in (site / "sample.html").read_text(encoding="utf-8")


def test_equations_are_drawn_without_a_script(site: Path) -> None:
    wanted = (DOCS / "method.md").read_text(encoding="utf-8").count("```math\n")
    text = (site / "method.html").read_text(encoding="utf-8")
    assert text.count("<math ") == wanted > 5
    assert "\\frac" not in text


def test_the_sample_is_the_report_of_the_run(site: Path, sample: Path) -> None:
    assert (site / "sample" / "report.html").read_bytes() == (sample / "report.html").read_bytes()
    text = (site / "sample.html").read_text(encoding="utf-8")
    assert 'href="sample/report.html"' in text
    assert 'href="sample/explorer.html"' in text  # it lies in the folder of this run


def test_a_sample_without_an_explorer_has_no_link_to_one(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sample / "explorer.html").unlink(missing_ok=True)
    monkeypatch.setenv("CFALIGN_SAMPLE", str(sample))
    text = pages.on_page_markdown((DOCS / "sample.md").read_text(encoding="utf-8"))
    assert "report.html" in text
    assert "explorer.html" not in text


def test_without_a_run_the_build_says_what_to_do(tmp_path: Path) -> None:
    done = built(tmp_path / "site", tmp_path / "nothing")
    assert done.returncode != 0
    assert "run `cfalign demo` first" in done.stderr


def test_examples_and_tables_of_docstrings_become_markdown() -> None:
    text = "First.\n\n====  ======\na     one\n      more\nb     two\n====  ======\n\n>>> 1 + 1\n2\n\nLast."
    assert docstrings.as_markdown(text).split("\n") == [
        *("First.", "", "", "| | |", "|---|---|", "| a | one more |", "| b | two |", "", ""),
        *("", "```pycon", ">>> 1 + 1", "2", "```", "", "Last."),
    ]
    assert docstrings.as_markdown("    >>> 1") == "\n    ```pycon\n    >>> 1\n    ```"
