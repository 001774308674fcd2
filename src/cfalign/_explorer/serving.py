"""The server: where it listens, and what is said when it does."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

from cfalign._errors import BadInput
from cfalign._explorer.shelf import Shelf
from cfalign._models.extras import imported


def serve(shelf: Shelf, *, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted. ``ready`` gets the address of the first page, with the token where one is needed.

    Raises BadInput where the port is taken or the host is none of this machine, and without the extra ``explore``.
    """
    imported("fastapi", extra="explore")
    uvicorn = imported("uvicorn", extra="explore")
    from cfalign._explorer.app import application  # needs what the extra brings, as the guard does
    from cfalign._explorer.guard import Guard

    guard = Guard.of(host)
    listening = _listening(host, port)
    name = f"[{host}]" if ":" in host else (socket.gethostname() if host in ("0.0.0.0", "") else host)
    where = f"http://{name}:{listening.getsockname()[1]}/"
    ready(where if guard.token is None else f"{where}?token={guard.token}")
    settings = uvicorn.Config(application(shelf, guard), log_level="warning", server_header=False)
    with suppress(KeyboardInterrupt):  # Ctrl-C is how a person ends it
        uvicorn.Server(settings).run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen()  # who comes before the server is up waits, and is not refused
    except (OSError, OverflowError) as error:
        found.close()
        where = "this machine" if host in ("127.0.0.1", "localhost", "::1") else f"the host {host!r}"
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(
            f"Cannot listen at port {port} of {where}: {reason.lower()}. Give another --port (0 takes a free one) or "
            "--host."
        ) from error
    return found
