"""The first page of a run: what was found, in sentences, with images and marks."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from markupsafe import Markup

from cfalign._explorer.pictures import REPORT
from cfalign._explorer.shelf import Shelved
from cfalign._explorer.site import Site
from cfalign._findings import Finding, FindingKind
from cfalign.report import unnamed, verdict

_SHOWN = 100
"""Findings on the page."""


def add(app: FastAPI, site: Site) -> None:
    """The pages ``/`` and ``/RUN/``."""

    @app.get("/")
    def runs(request: Request) -> Response:
        only = list(site.shelf.runs)
        if len(only) == 1:
            return RedirectResponse(f"/{only[0]}/")
        paths = [str(one.path) for one in site.shelf.runs.values()]
        compared = ["cfalign", "compare", paths[0], paths[-1]]
        return site.page(request, "runs.html.j2", next_steps=[("What changed, in a terminal", compared)])

    @app.get("/{key}/")
    def overview(request: Request, key: str) -> Response:
        one = site.shelf[key]
        return site.page(
            request,
            "overview.html.j2",
            one=one,
            tab="",
            report=(one.path / REPORT).is_file(),
            findings=[(f, sentence(f, one), cell_of(f)) for f in one.findings[:_SHOWN]],
            features=[(f, Markup(unnamed.headline(f, marked)), unnamed.explanation(f, str)) for f in one.unnamed],
            next_steps=list(_next(one)),
        )


def marked(name: str) -> str:
    """A name as code."""
    return f"<code>{escape(name)}</code>"


def sentence(finding: Finding, one: Shelved) -> Markup:
    """The finding in a sentence."""
    return Markup(verdict.finding_sentence(finding, marked, one.standings))


def cell_of(finding: Finding) -> tuple[str, str]:
    """The cell of the matrix whose images show a finding: (base, head)."""
    first = finding.members[0] if finding.kind is FindingKind.JOINT and finding.members else finding.attribute
    return first, finding.audited


def _next(one: Shelved) -> Iterator[tuple[str, list[str]]]:
    run = str(one.path)
    yield "Let a release fail where an effect is larger than allowed", ["cfalign", "check", run]
    if one.unnamed:
        first = one.unnamed[0]
        words = ["cfalign", "name", run, str(first.number), "WHAT YOU SEE", "--of", first.audited]
        yield "Give an unnamed feature a name, so that later audits know it", words
    yield "The whole run on one page, to pass on", ["cfalign", "report", run]
