"""What people say: marks are made beside every thing, listed on a page, and taken along as a file of relations."""

from __future__ import annotations

from urllib.parse import parse_qs, quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.exceptions import HTTPException

from cfalign._audit.marked import relations_of
from cfalign._explorer.site import USER, Site, judged_in, user_of
from cfalign._runs.marks import add_mark, judgements, mark, read_marks

_LARGEST = 20_000
"""Bytes of a form."""
_YEAR = 365 * 24 * 3600


def add(app: FastAPI, site: Site) -> None:
    """The pages ``/RUN/marks`` and ``/RUN/relations.toml``, and the form behind ``/RUN/mark``."""

    @app.get("/{key}/marks")
    def marks(request: Request, key: str) -> Response:
        one = site.shelf[key]
        made = read_marks(one.path)
        check = ["cfalign", "check", str(one.path), "--expected", "relations.toml"]
        return site.page(
            request,
            "marks.html.j2",
            one=one,
            tab="marks",
            things=list(judgements(made).items()),
            history=list(reversed(made)),
            next_steps=[("With the downloaded file, let a release fail for what nobody expects", check)],
        )

    @app.get("/{key}/relations.toml")
    def relations(key: str) -> Response:
        text = relations_of(read_marks(site.shelf[key].path))
        headers = {"Content-Disposition": 'attachment; filename="relations.toml"'}
        return PlainTextResponse(text, media_type="application/toml", headers=headers)

    @app.post("/{key}/mark")
    async def marked(request: Request, key: str) -> Response:
        one = site.shelf[key]
        form = await _form(request, site)
        user = " ".join(form.get("user", [user_of(request)])[0].split())[:80]
        first = {name: values[0] for name, values in form.items()}
        made = mark(
            first.get("thing", ""),
            form.get("about", []),
            first.get("opinion", ""),
            user=user,
            note=first.get("note", ""),
        )
        add_mark(one.path, made)
        answer = _answer(request, site, key, first.get("back", ""), made.thing.value, made.about)
        answer.set_cookie(USER, quote(user), max_age=_YEAR, samesite="strict")
        return answer


def _answer(request: Request, site: Site, key: str, back: str, thing: str, about: tuple[str, ...]) -> Response:
    """The marks beside the thing for a script, the page itself without one."""
    one = site.shelf[key]
    if request.headers.get("hx-request"):
        words = {"one": one, "thing": thing, "about": about, "judged": judged_in(one), "seal": site.guard.seal}
        text = site.pages.get_template("_mark.html.j2").render(**words, user=user_of(request), here=back, query="")
        return Response(text, media_type="text/html")
    local = back.startswith(f"/{key}/") and "//" not in back and "\\" not in back
    return RedirectResponse(back if local else f"/{key}/marks", status_code=303)


async def _form(request: Request, site: Site) -> dict[str, list[str]]:
    """The fields of a form of this server's own pages. Raises HTTPException for any other."""
    if int(request.headers.get("content-length") or 0) > _LARGEST:
        raise HTTPException(413, "the form is too large")
    body = await request.body()
    if len(body) > _LARGEST:
        raise HTTPException(413, "the form is too large")
    fields = parse_qs(body.decode("utf-8", errors="replace"), keep_blank_values=False, max_num_fields=20)
    if not site.guard.sealed(fields.get("seal", [""])[0]):
        raise HTTPException(403, "the form is not of this server, or the server was started anew: load the page again")
    return fields
