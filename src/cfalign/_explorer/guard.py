"""Who may ask: this machine under its own name, pages of this server, and beyond it only who knows the token."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
COOKIE = "cfalign_token"
POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What a page may load: nothing from anywhere else, and no script but the files of the explorer."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Next = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Guard:
    """The rules of one server."""

    token: str | None = None
    """What a stranger must know; None where only this machine can ask."""
    seal: str = ""
    """What a form of this server's pages carries, so that no other page can send one."""

    @classmethod
    def of(cls, host: str) -> Guard:
        """The rules of a server that listens at ``host``: a token where other machines reach it."""
        local = host in LOOPBACK
        return cls(token=None if local else secrets.token_urlsafe(24), seal=secrets.token_urlsafe(24))

    async def __call__(self, request: Request, go_on: Next) -> Response:
        """Refuse, or answer with the headers that keep a page to itself."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        response = await go_on(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def _refusal(self, request: Request) -> Response | None:
        if not _named_right(request, self.token is None):
            return _refused("This server answers to 127.0.0.1 and localhost only.", 421)
        if _from_elsewhere(request):
            return _refused("This request came from a page of another site.", 403)
        if self.token is None:
            return None
        given = request.query_params.get("token", "")
        if given and secrets.compare_digest(given.encode(), self.token.encode()):
            return self._let_in(request)
        known = request.cookies.get(COOKIE, "")
        if secrets.compare_digest(known.encode(), self.token.encode()):
            return None
        return _refused("This explorer needs the token that was printed where it was started: …/?token=…", 401)

    def _let_in(self, request: Request) -> Response:
        answer = RedirectResponse(request.url.path or "/", status_code=303, headers=HEADERS)
        answer.set_cookie(COOKIE, self.token or "", httponly=True, samesite="strict")
        return answer

    def sealed(self, given: str) -> bool:
        """Whether a form is one of this server's own pages."""
        return secrets.compare_digest(given.encode(), self.seal.encode())


def _named_right(request: Request, local: bool) -> bool:
    """Whether the host that was asked for is this machine: a name of another site may point here too."""
    if not local:
        return True
    try:
        return (urlsplit(f"//{request.headers.get('host', '')}").hostname or "") in LOOPBACK
    except ValueError:
        return False


def _from_elsewhere(request: Request) -> bool:
    """Whether a browser says that another site's page makes this request; following a link from there is fine."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        return True
    site, mode = request.headers.get("sec-fetch-site", "none"), request.headers.get("sec-fetch-mode", "navigate")
    followed = mode == "navigate" and request.method == "GET" and request.headers.get("sec-fetch-dest") == "document"
    return site not in ("none", "same-origin") and not followed


def _refused(sentence: str, status: int) -> Response:
    return PlainTextResponse(sentence + "\n", status_code=status, headers=HEADERS)
