"""The effects as a table and the alignment matrix as a grid: filtered, sorted, every number a link to its images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response

from cfalign._errors import BadInput
from cfalign._explorer.shelf import Shelved
from cfalign._explorer.site import Site
from cfalign._figures import style
from cfalign._figures.svg import matrix_order
from cfalign._results import Cell, Effect

_ROWS = 200
"""Rows of the table on one page."""
_SIDE = 120
"""Heads of the grid in one direction."""
_SORTS = ("size", "effect", "attribute", "audited", "q", "n")
_ORDERS = ("cluster", "name", "strength")


def add(app: FastAPI, site: Site) -> None:
    """The pages ``/RUN/effects`` and ``/RUN/matrix``."""

    @app.get("/{key}/effects")
    def effects(
        request: Request,
        key: str,
        audited: str = "",
        find: str = "",
        clear: bool = False,
        own: bool = False,
        sort: str = "size",
        reverse: bool = False,
        start: int = 0,
    ) -> Response:
        one = site.shelf[key]
        wanted = Wanted(audited, find, clear, own, sort, reverse)
        rows = wanted.rows(one.effects)
        asked = {"audited": audited, "find": find, "clear": clear, "own": own, "sort": sort, "reverse": reverse}
        part = rows[max(start, 0) : max(start, 0) + _ROWS]
        more = start + _ROWS if start + _ROWS < len(rows) else None
        return site.page(
            request,
            "effects.html.j2",
            one=one,
            tab="effects",
            rows=part,
            many=len(rows),
            asked=asked,
            more=more,
            next_steps=[("Start a file of what is fine, for a person to go through", _started(one))],
        )

    @app.get("/{key}/matrix")
    def matrix(request: Request, key: str, order: str = "cluster", find: str = "") -> Response:
        one = site.shelf[key]
        bases, heads = _ordered(one, order, find)
        left_out = max(len(bases) - _SIDE, 0) + max(len(heads) - _SIDE, 0)
        bases, heads = bases[:_SIDE], heads[:_SIDE]
        grid = [(base, [_square(one.cells.get((base, head)), base, head) for head in heads]) for base in bases]
        return site.page(
            request,
            "matrix.html.j2",
            one=one,
            tab="matrix",
            heads=heads,
            grid=grid,
            order=order,
            orders=_ORDERS,
            find=find,
            left_out=left_out,
            next_steps=[
                ("The same with the images of every finding on one page", ["cfalign", "report", str(one.path)])
            ],
        )


def _started(one: Shelved) -> list[str]:
    return ["cfalign", "check", str(one.path), "--write", "relations.toml"]


@dataclass(frozen=True)
class Wanted:
    """Which effects are wanted, and in which order."""

    audited: str = ""
    find: str = ""
    clear: bool = False
    """Only those that are more than chance."""
    own: bool = False
    """Also those of a head's own concept."""
    sort: str = "size"
    reverse: bool = False

    def rows(self, effects: Sequence[Effect]) -> list[Effect]:
        """The effects that are wanted, in order; an undefined number comes last. Raises BadInput for another order."""
        if self.sort not in _SORTS:
            raise BadInput(f"sort: expected one of {', '.join(_SORTS)}, got {self.sort!r}.")
        some = [e for e in effects if self._keeps(e)]
        known = [e for e in some if _known(self._value(e))]
        known.sort(key=lambda e: (e.audited, e.attribute))
        known.sort(key=self._value, reverse=self.reverse)
        return known + [e for e in some if not _known(self._value(e))]

    def _keeps(self, e: Effect) -> bool:
        text = self.find.strip().lower()
        told = not text or text in e.attribute.lower() or text in e.audited.lower()
        return (
            told
            and self.audited in ("", e.audited)
            and (e.clear or not self.clear)
            and (self.own or bool(self.find) or not e.own)
        )

    def _value(self, e: Effect) -> Any:
        values = {"size": -abs(e.effect), "effect": -e.effect, "q": e.q, "n": -e.n}
        return values.get(self.sort, getattr(e, self.sort, ""))


def _known(value: float | str) -> bool:
    return isinstance(value, str) or math.isfinite(value)


@dataclass(frozen=True)
class Square:
    """One cell of the grid."""

    base: str
    head: str
    fill: str | None
    """Its colour; None where nothing is known."""
    ink: str
    words: str
    clear: bool


def _square(cell: Cell | None, base: str, head: str) -> Square:
    if cell is None or not cell.n or not math.isfinite(cell.psi):
        return Square(base, head, None, style.MUTED, f"{base} → {head}: no counterfactual counts", clear=False)
    fill = style.diverging(cell.psi)
    words = (
        f"{base} → {head}: ψ {style.signed(cell.psi)} {style.interval(cell.ci_low, cell.ci_high)}, n {cell.n}, "
        f"{style.q_value(cell.q)}"
    )
    return Square(base, head, fill, style.ink_on(fill), words, cell.clear)


def _ordered(one: Shelved, order: str, find: str) -> tuple[list[str], list[str]]:
    """The bases and heads of the grid in order."""
    if order not in _ORDERS:
        raise BadInput(f"order: expected one of {', '.join(_ORDERS)}, got {order!r}.")
    bases, heads = one.record["bases"], list(one.heads)
    if order == "cluster":
        known = [cell for cell in one.cells.values() if cell.n]
        some = matrix_order(known, apart=one.audited if len(one.audited) < len(heads) else ())
        bases, heads = (_as(wanted, given) for wanted, given in zip(some, (bases, heads), strict=True))
    elif order == "name":
        bases, heads = sorted(bases), sorted(heads)
    else:
        bases = sorted(bases, key=lambda b: -_strength(one, base=b))
        heads = sorted(heads, key=lambda h: -_strength(one, head=h))
    text = find.strip().lower()
    named = [base for base in bases if text in base.lower()]
    return (named or bases, heads) if named else ([], [])


def _as(wanted: Sequence[str], given: Sequence[str]) -> list[str]:
    """The names in the wanted order, then those that it lacks."""
    return [n for n in wanted if n in given] + [n for n in given if n not in wanted]


def _strength(one: Shelved, base: str | None = None, head: str | None = None) -> float:
    """Σ|ψ| of a row or a column but for the diagonal."""
    cells = (c for c in one.cells.values() if base in (None, c.base) and head in (None, c.downstream))
    return sum(abs(c.psi) for c in cells if c.base != c.downstream and math.isfinite(c.psi))
