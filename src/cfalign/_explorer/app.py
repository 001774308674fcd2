"""The application: every page under its address, and one answer for whatever goes wrong."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware

from cfalign._errors import CfalignError
from cfalign._explorer import comparing, gallery, marking, overview, pictures, tables, trying
from cfalign._explorer.guard import Guard
from cfalign._explorer.shelf import NoSuchRun, Shelf
from cfalign._explorer.site import Site


def application(shelf: Shelf, guard: Guard) -> FastAPI:
    """The web application of these runs under these rules."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BaseHTTPMiddleware, dispatch=guard)
    app.mount("/static", StaticFiles(directory=str(files("cfalign._explorer") / "static")))
    site = Site.of(shelf, guard)
    for pages in (comparing, marking, pictures, tables, gallery, trying, overview):
        pages.add(app, site)
    _explain_errors(app, site)
    return app


def _explain_errors(app: FastAPI, site: Site) -> None:
    def told(request: Request, sentence: str, status: int) -> HTMLResponse:
        return site.page(request, "error.html.j2", status=status, sentence=sentence)

    @app.exception_handler(CfalignError)
    def refused(request: Request, error: CfalignError) -> HTMLResponse:
        return told(request, str(error), 404 if isinstance(error, NoSuchRun) else 400)

    @app.exception_handler(RequestValidationError)
    def unreadable(request: Request, error: RequestValidationError) -> HTMLResponse:
        first = error.errors()[0]
        return told(request, f"{'.'.join(map(str, first['loc']))}: {first['msg']}.", 400)

    @app.exception_handler(HTTPException)
    def absent(request: Request, error: HTTPException) -> HTMLResponse:
        return told(request, f"There is nothing at this address ({error.detail}).", error.status_code)
