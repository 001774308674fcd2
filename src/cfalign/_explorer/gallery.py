"""The images behind a number: a cell's gallery, an image, and one walk with its slider."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from fastapi import FastAPI, Request, Response
from markupsafe import Markup

from cfalign._audit.pictures import kept
from cfalign._errors import BadInput
from cfalign._explorer.shelf import Remade, Shelved
from cfalign._explorer.site import Site, link
from cfalign._figures import style
from cfalign._figures.svg import Walk, alignment_plot
from cfalign._figures.svg.elements import element, figure, line, text
from cfalign._results import Effect, Outcome
from cfalign._runs.columns import attribute_of
from cfalign._runs.run import Run

_PAGE = 24
"""Images of a gallery on one page."""
_LINES = 60
"""Images in the plot of a cell."""
_SORTS = {
    "psi": "largest |ψ| first",
    "up": "largest ψ first",
    "down": "smallest ψ first",
    "before": "highest score first",
    "name": "by name",
}


def add(app: FastAPI, site: Site) -> None:
    """The pages ``/RUN/cell``, ``/RUN/image`` and ``/RUN/walk``."""

    @app.get("/{key}/cell")
    def cell(request: Request, key: str, base: str, head: str, sort: str = "psi", start: int = 0) -> Response:
        one = site.shelf[key]
        rows = _sorted(one.behind(base, head), sort)
        start = max(start, 0)
        shown = [_card(one, base, row) for row in rows.slice(start, _PAGE).iter_rows(named=True)]
        return site.page(
            request,
            "cell.html.j2",
            one=one,
            tab="matrix",
            base=base,
            head=head,
            cell=one.cells.get((base, head)),
            effect=_effect(one, base, head),
            plot=Markup(cell_plot(rows, base, head)) if len(rows) else "",
            cards=shown,
            many=len(rows),
            start=start,
            page=_PAGE,
            sort=sort,
            sorts=_SORTS,
            attribute=attribute_of(base),
            next_steps=[("The same rows in a terminal", _query(one.run, base, head))],
        )

    @app.get("/{key}/image")
    def image(request: Request, key: str, id: str) -> Response:
        one = site.shelf[key]
        rows = one.rows_of(id)
        if rows.is_empty() and not (one.live and id in one.places):
            raise BadInput(f"No run here has a counterfactual of the image {id!r}.")
        bases = [_row_of(row) for row in rows.sort("base").iter_rows(named=True)]
        original = link(f"/{key}/original", image=id) if one.live else None
        original = original or _kept_original(one, id, [base["base"] for base in bases])
        return site.page(
            request,
            "image.html.j2",
            one=one,
            tab="",
            id=id,
            bases=bases,
            original=original,
            next_steps=[("Its rows in a terminal, with the answers of every head", _rows_of_image(one, id))],
        )

    @app.get("/{key}/walk")
    def walk(request: Request, key: str, image: str, base: str, head: str = "") -> Response:
        one = site.shelf[key]
        rows = one.rows_of(image).filter(pl.col("base") == base)
        if rows.is_empty():
            raise BadInput(f"The run has no counterfactual of {base!r} for the image {image!r}.")
        row = rows.row(0, named=True)
        found = one.walk((image, base), rows)
        made = one.remade((image, base)) if one.live and Outcome(row["outcome"]).walked else None
        return site.page(
            request,
            "walk.html.j2",
            one=one,
            tab="",
            image=image,
            base=base,
            head=head,
            row=_row_of(row),
            pictures=pictures_of(one, image, base),
            plot=Markup(alignment_plot(found, start=one.run.start, marked=[head] if head else ())) if found else "",
            heads=_heads(found),
            steps=_steps(one, image, base, made),
            track=json.dumps(_track(made)) if made else "",
            next_steps=_after_walk(one, base, head),
        )


def _rows_of_image(one: Shelved, image: str) -> list[str]:
    quoted = image.replace("'", "''")
    return ["cfalign", "query", str(one.path), "--where", f"image_id = '{quoted}'"]


def _after_walk(one: Shelved, base: str, head: str) -> list[tuple[str, list[str]]]:
    """All images of the cell on one sheet; without models first how they are brought along."""
    sheet = [*_query(one.run, base, head or base), "--sheet", "sheet.png"]
    steps = [("More images of this kind on one sheet", sheet)]
    return steps if one.live else [("How the models are brought along", _with_models(one)), *steps]


def _query(run: Run, base: str, head: str) -> list[str]:
    return ["cfalign", "query", str(run.path), "--base", base, "--downstream", head]


def _with_models(one: Shelved) -> list[str]:
    models = ["--images", "FOLDER", "--classifier", "MODEL", "--autoencoder", "FOLDER"]
    return ["cfalign", "explore", str(one.path), *models]


def _sorted(rows: pl.DataFrame, sort: str) -> pl.DataFrame:
    if sort not in _SORTS:
        raise BadInput(f"sort: expected one of {', '.join(_SORTS)}, got {sort!r}.")
    psi, down = pl.col("psi"), True
    by = {"psi": psi.abs(), "up": psi, "down": psi, "before": pl.col("base_before"), "name": pl.col("image_id")}[sort]
    down = sort not in ("down", "name")
    return rows.sort(by, descending=down, nulls_last=True, maintain_order=True)


def _effect(one: Shelved, base: str, head: str) -> Effect | None:
    """The effect whose incoming reading the cell is."""
    attribute = attribute_of(base)
    return next((e for e in one.effects if e.audited == head and e.attribute == attribute), None)


@dataclass(frozen=True)
class Card:
    """One image of a gallery."""

    image: str
    outcome: str
    psi: float
    base: tuple[float, float]
    head: tuple[float, float]
    pictures: list[tuple[str, str]]
    """(what it is called, its address)"""


def _card(one: Shelved, base: str, row: dict[str, Any]) -> Card:
    numbers = {name: math.nan if value is None else value for name, value in row.items()}
    return Card(
        image=row["image_id"],
        outcome=row["outcome"],
        psi=numbers["psi"],
        base=(numbers["base_before"], numbers["base_after"]),
        head=(numbers["before"], numbers["after"]),
        pictures=_ends(pictures_of(one, row["image_id"], base), one),
    )


def _ends(pictures: list[tuple[str, str]], one: Shelved) -> list[tuple[str, str]]:
    """Where the walk starts and where it ends."""
    return [(name, address) for name, address in pictures if name in (one.run.start.picture, "counterfactual")]


def pictures_of(one: Shelved, image: str, base: str) -> list[tuple[str, str]]:
    """(name, address) of the images of a pair: those that the run holds, else those that its models make again."""
    files = kept(one.run, image, base)
    if files:
        return [(name, _file(one, file.relative_to(one.path).as_posix())) for name, file in files.items()]
    if not one.live:
        return []
    steps = {one.run.start.picture: 0, "counterfactual": -1}
    address = f"/{one.key}/frame"
    return [(name, link(address, image=image, base=base, step=str(step))) for name, step in steps.items()]


def _file(one: Shelved, path: str) -> str:
    return link(f"/{one.key}/file", path=path)


def _kept_original(one: Shelved, image: str, bases: Sequence[str]) -> str | None:
    found = (dict(pictures_of(one, image, base)).get("original") for base in bases)
    return next((address for address in found if address), None)


def _row_of(row: dict[str, Any]) -> dict[str, Any]:
    before, after = row["base_before"], row["base_after"]
    return {"base": row["base"], "outcome": row["outcome"], "before": before, "after": after, "lambda": row["lambda"]}


def _heads(walk: Walk | None) -> list[tuple[str, float, float, float]]:
    """(head, score before, score after, ψ), what moves most first."""
    if walk is None:
        return []
    rows = [(head, scores[0], scores[-1], walk.psi(head)) for head, scores in walk.scores.items()]
    return sorted(rows, key=lambda row: -abs(row[2] - row[1]) if math.isfinite(row[2] - row[1]) else math.inf)


def _steps(one: Shelved, image: str, base: str, made: Remade | None) -> list[str]:
    """The addresses of the frames of a slider."""
    if made is None:
        return []
    return [link(f"/{one.key}/frame", image=image, base=base, step=str(i)) for i in range(len(made.frames))]


def _track(made: Remade) -> dict[str, Any]:
    """The scores at every step, for the slider: those of the base, and of the heads that move most."""
    change = [abs(float(made.scores[-1, i] - made.scores[0, i])) for i in range(len(made.heads))]
    order = sorted(range(1, len(made.heads)), key=lambda i: -change[i])[:8]
    columns = [0, *order]
    return {
        "heads": [made.heads[i] for i in columns],
        "scores": [[round(float(made.scores[step, i]), 4) for i in columns] for step in range(len(made.scores))],
        "lambdas": [round(float(v), 6) if math.isfinite(v) else None for v in made.lambdas],
    }


def cell_plot(rows: pl.DataFrame, base: str, head: str) -> str:
    """How the head answers as the base falls, a line per image: its slope is ψ."""
    width, height, left, bottom, top = 420.0, 260.0, 46.0, 216.0, 14.0
    right = width - 14.0
    across = right - left

    def x(score: float) -> float:
        return left + (1 - min(max(score, 0.0), 1.0)) * across

    def y(score: float) -> float:
        return bottom - min(max(score, 0.0), 1.0) * (bottom - top)

    grid = [line(left, y(v), right, y(v), stroke=style.RULE) for v in (0.0, 0.5, 1.0)]
    grid += [text(f"{v:g}", left - 6, y(v) + 4, text_anchor="end", fill=style.MUTED) for v in (0.0, 0.5, 1.0)]
    grid += [text(f"{v:g}", x(v), bottom + 16, text_anchor="middle", fill=style.MUTED) for v in (1.0, 0.5, 0.0)]
    words = f"score of {style.clip(base, 40)}, falling →"
    grid.append(text(words, (left + right) / 2, bottom + 34, text_anchor="middle", fill=style.MUTED))
    lines = list(_lines(rows, x, y))
    label = f"Score of {head} against the score of {base}, a line for each of {len(lines)} images"
    return figure(width, height, label, *grid, *lines)


def _lines(rows: pl.DataFrame, x: Any, y: Any) -> Iterator[str]:
    columns = ("base_before", "base_after", "before", "after")
    for ends in rows.head(_LINES).select(*columns).iter_rows():
        if any(value is None or not math.isfinite(value) for value in ends):
            continue
        b0, b1, h0, h1 = ends
        colour = style.POSITIVE if h1 < h0 else style.NEGATIVE
        yield element("line", x1=x(b0), y1=y(h0), x2=x(b1), y2=y(h1), stroke=colour, stroke_opacity=0.45)
        yield element("circle", cx=x(b1), cy=y(h1), r=2.2, fill=colour)
