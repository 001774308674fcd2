"""The playground: a composition of heads, its counterfactuals, and how the row of the matrix changes."""

from __future__ import annotations

from collections import OrderedDict

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from cfalign._errors import BadInput
from cfalign._explorer.pictures import png
from cfalign._explorer.playground import Trial, tried
from cfalign._explorer.site import Site

_KEPT = 8
"""Trials that are kept for their pictures."""
_MOST = 64
_SHOWN = 8
"""Images that are shown of a trial."""


def add(app: FastAPI, site: Site) -> None:
    """The page ``/RUN/try`` and its pictures."""
    trials: OrderedDict[tuple[str, str, str, int], Trial] = OrderedDict()

    def trial(key: str, base: str, text: str, count: int) -> Trial:
        asked = (key, base, text, count)
        if asked not in trials:
            trials[asked] = tried(site.shelf[key], base, text, count=count)
        while len(trials) > _KEPT:
            trials.popitem(last=False)
        return trials[asked]

    @app.get("/{key}/try")
    def trying(request: Request, key: str, base: str = "", text: str = "", count: int = 16) -> Response:
        one = site.shelf[key]
        count = min(max(count, 1), _MOST)
        found, refused = None, ""
        if one.live and base and text:
            try:
                found = trial(key, base, text, count)
            except BadInput as error:
                refused = str(error)
        return site.page(
            request,
            "try.html.j2",
            one=one,
            tab="try",
            base=base or one.audited[0],
            text=text,
            count=count,
            found=found,
            refused=refused,
            shown=_SHOWN,
            models=["cfalign", "explore", str(one.path), "--classifier", "MODEL", "--autoencoder", "FOLDER"],
            next_steps=_next(str(one.path), text or base or one.audited[0]),
        )

    @app.get("/{key}/trial")
    def picture(key: str, base: str, text: str, count: int, image: int, which: int) -> Response:
        found = trial(key, base, text, min(max(count, 1), _MOST))
        if not (0 <= image < len(found.pictures) and 0 <= which < 3):
            raise HTTPException(404, "the trial has no such picture")
        return png(found.pictures[image][which])


def _next(run: str, text: str) -> list[tuple[str, list[str]]]:
    words = ["cfalign", "audit", "--classifier", "MODEL", "--bases", text, "--out", f"{run}-composed"]
    return [("A whole audit of a composition, with the images and models of this run", words)]
