"""What all pages share: the runs, the rules, the templates, and the marks beside every thing."""

from __future__ import annotations

import getpass
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote, urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from cfalign._explorer.guard import Guard
from cfalign._explorer.shelf import Shelf, Shelved
from cfalign._figures import style
from cfalign._runs.marks import Judgement, Key, Opinion, Thing, judgements, read_marks

USER = "cfalign_user"
"""The cookie that holds the name under which a person marks."""
TABS = (
    ("", "Findings"),
    ("effects", "Effects"),
    ("matrix", "Matrix"),
    ("try", "Try a composition"),
    ("marks", "Marks"),
)


def link(path: str, /, **values: object) -> str:
    """An address with the values that are given, quoted.

    >>> link("/demo/cell", base="a & b", head=None)
    '/demo/cell?base=a+%26+b'
    """
    given = {name: value for name, value in values.items() if value not in (None, "", False)}
    return f"{path}?{urlencode(given)}" if given else path


@dataclass(frozen=True)
class Site:
    """One server's content."""

    shelf: Shelf
    guard: Guard
    pages: Environment

    @classmethod
    def of(cls, shelf: Shelf, guard: Guard) -> Site:
        """A site with the templates of the explorer."""
        loader = PackageLoader("cfalign._explorer")
        pages = Environment(
            loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
        )
        pages.globals |= {"link": link, "style": style, "tabs": TABS, "opinions": list(Opinion)[:3]}
        pages.filters |= {"signed": style.signed, "number": style.number, "q": style.bare, "command": shlex.join}
        return cls(shelf, guard, pages)

    def page(self, request: Request, template: str, *, status: int = 200, **content: Any) -> HTMLResponse:
        """A whole page."""
        one = content.get("one")
        content |= {"runs": self.shelf.runs, "seal": self.guard.seal, "user": user_of(request)}
        content |= {"here": str(request.url.path), "query": str(request.url.query), "judged": judged_in(one)}
        content.setdefault("one", None)
        content.setdefault("next_steps", [])
        return HTMLResponse(self.pages.get_template(template).render(**content), status_code=status)


def user_of(request: Request) -> str:
    """Under which name a person marks: the one given last in this browser, else that of the account."""
    given = unquote(request.cookies.get(USER, ""))
    if given:
        return given[:80]
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "nobody"


def judged_in(one: Shelved | None) -> Any:
    """What people say of a thing of this run: a function of its kind and its names."""
    known = {} if one is None else judgements(read_marks(one.path))
    return partial(_judged, known)


def _judged(known: Mapping[Key, Judgement], thing: str, about: Sequence[object]) -> Judgement:
    return known.get((Thing(thing), tuple(map(str, about))), Judgement(()))
