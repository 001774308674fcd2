"""Lists and plurals in sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Mark = Callable[[str], str]
"""How a name is written: quoted, as code, escaped."""


def list_of(names: Sequence[str], mark: Mark, *, most: int = 3) -> str:
    """``a, b and c``, or ``a, b, c and 12 more``."""
    shown = [mark(n) for n in names[:most]]
    if len(names) > most:
        return ", ".join(shown) + f" and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def plural(n: int, one: str, many: str = "") -> str:
    """``1 image``, ``2 images``."""
    return f"{n} {one if n == 1 else many or one + 's'}"
