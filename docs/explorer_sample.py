"""Write RUN/explorer.html: some pages of `cfalign explore` of a run as one file, to look at without a server.

    python docs/explorer_sample.py runs/demo

What a server must answer (filters, marks, other galleries) is left out; sliders, the matrix and the colours work.
"""

from __future__ import annotations

import base64
import html
import re
import sys
from importlib.resources import files
from pathlib import Path

from fastapi.testclient import TestClient

import cfalign as cfa
from cfalign._cli.at_hand import NamedInputs
from cfalign._explorer.app import application
from cfalign._explorer.guard import Guard
from cfalign._explorer.overview import cell_of
from cfalign._explorer.shelf import Fetch, Shelf, Shelved
from cfalign._explorer.site import link

FINDINGS = 2
"""Findings whose gallery and first walk are shown."""
NAME = "explorer.html"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write(run: cfa.Run, fetch: Fetch | None) -> Path:
    """The file of a finished run; ``fetch`` opens its images and models, where they are at hand."""
    shelf = Shelf([(run, fetch)])
    (one,) = shelf.runs.values()
    visitor = TestClient(application(shelf, Guard(seal="sample")), base_url="http://localhost")
    pages = chosen(one)
    places = {address: f"page-{number}" for number, address in enumerate(pages.values())}
    parts = [section(words, visitor, address, places) for words, address in pages.items()]
    file = run.path / NAME
    file.write_text(page(list(pages), parts), encoding="utf-8")
    return file


def chosen(one: Shelved) -> dict[str, str]:
    """The addresses of the pages, by what they are called."""
    key = one.key
    found = {"Findings": f"/{key}/", "Effects": f"/{key}/effects", "Matrix": f"/{key}/matrix"}
    for finding in one.findings[:FINDINGS]:
        base, head = cell_of(finding)
        found[f"{base} → {head}"] = link(f"/{key}/cell", base=base, head=head)
        image = one.run.top(base, head, k=1)["image_id"].to_list()
        if image:
            address = link(f"/{key}/walk", image=image[0], base=base, head=head)
            found[f"A walk of {base}"] = address
    return found


def section(words: str, visitor: TestClient, address: str, places: dict[str, str]) -> str:
    """The content of a page, with its images inside and its links to the other pages."""
    text = visitor.get(address).text
    body = text.partition("<main")[2].partition(">")[2].rpartition("</main>")[0]
    body = re.sub(r"<form.*?</form>|<section class=\"next\".*?</section>", "", body, flags=re.DOTALL)
    body = re.sub(r"<details>\s*<summary>[^<]*</summary>\s*</details>", "", body)
    body = re.sub(r"<nav class=\"paging\".*?</nav>| id=\"[^\"]*\"", "", body, flags=re.DOTALL)
    body = body.replace(' loading="lazy"', "")
    body = re.sub(r"<(/?)h([12])\b", lambda found: f"<{found[1]}h{int(found[2]) + 1}", body)
    body = re.sub(r' href="([^"]*)"', lambda found: _to(html.unescape(found[1]), places), body)
    body = re.sub(r' src="([^"]*)"', lambda found: f' src="{_inside(html.unescape(found[1]), visitor)}"', body)
    return f'<section id="{places[address]}" aria-label="{html.escape(words)}">{body}</section>'


def _to(address: str, places: dict[str, str]) -> str:
    place = places.get(address.partition("#")[0])
    return f' href="#{place}"' if place else ' aria-disabled="true" title="In the explorer itself this is a link."'


def _inside(address: str, visitor: TestClient) -> str:
    answer = visitor.get(address)
    kind = answer.headers["content-type"]
    return f"data:{kind};base64,{base64.b64encode(answer.content).decode()}" if answer.status_code == 200 else "data:,"


def page(names: list[str], parts: list[str]) -> str:
    """The whole file."""
    static = files("cfalign._explorer") / "static"
    style, script = ((static / name).read_text(encoding="utf-8") for name in ("explorer.css", "explorer.js"))
    tabs = "".join(f'<a href="#page-{number}">{html.escape(name)}</a>' for number, name in enumerate(names))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>Sample of the cfalign explorer</title>
<style>{style} section {{ border-bottom: 1px solid var(--rule); padding-bottom: 2rem; }}</style>
</head>
<body>
<header><div class="bar"><span class="brand">cfalign</span>
<span class="runs">A sample of the explorer: some of its pages, one below the other</span>
<button type="button" class="theme" hidden aria-label="Switch between light and dark">◐</button></div>
<nav class="tabs" aria-label="Pages">{tabs}</nav></header>
<main>
<h1>A sample of <code>cfalign explore</code></h1>
<p>The explorer itself also filters, sorts, opens every image, compares runs and keeps what people mark:
<code>cfalign demo</code>, then <code>cfalign explore runs/demo</code>.</p>
{"".join(parts)}
</main>
<script>{script}</script>
</body>
</html>
"""


def main(folder: str) -> None:
    """The sample of the run in a folder, with its models where its command named them."""
    run = cfa.Run(folder)
    inputs = NamedInputs().completed(run)
    fetch = None if inputs.lacking(run) else lambda: inputs.loaded(run, trust=False)
    print(write(run, fetch))


if __name__ == "__main__":
    main(sys.argv[1])
