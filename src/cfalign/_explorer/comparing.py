"""Two runs side by side: what appeared, what went, what grew and shrank."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from cfalign._audit.changes import Status
from cfalign._audit.comparison import compare
from cfalign._explorer.site import Site

_TELLING = (Status.APPEARED, Status.GONE, Status.GREW, Status.SHRANK, Status.ONLY_AFTER, Status.ONLY_BEFORE)
"""What is shown without being asked for."""
_ROWS = 300


def add(app: FastAPI, site: Site) -> None:
    """The page ``/compare``."""

    @app.get("/compare")
    def comparing(request: Request, before: str = "", after: str = "", status: str = "", find: str = "") -> Response:
        keys = list(site.shelf.runs)
        before, after = before or keys[0], after or keys[-1]
        old, new = site.shelf[before], site.shelf[after]
        found = compare(old.run, new.run)
        wanted = [s for s in Status if s == status] or list(_TELLING)
        text = find.strip().lower()
        changes = [c for c in found.of(*wanted) if text in c.relation.lower()]
        words = ["cfalign", "compare", str(old.path), str(new.path), "--fail-on", "new"]
        return site.page(
            request,
            "compare.html.j2",
            old=old,
            new=new,
            comparison=found,
            changes=changes[:_ROWS],
            more=max(len(changes) - _ROWS, 0),
            statuses=list(Status),
            asked={"before": before, "after": after, "status": status, "find": find},
            next_steps=[("Let a release fail for what appeared since the last one", words)],
        )
