"""The error tree.

::

    CfalignError                 anything cfalign raises on purpose
    ├── BadInput (ValueError)    what the user gave cannot be used; the message says what was expected, what came,
    │   │                        where, and what to do. The command line prints it and exits with 2.
    │   ├── RunMismatch          a run directory belongs to other settings or another schema version
    │   └── BadModel             a model broke its contract (shape, range, NaN)
    └── StorageFailed            the disk refused (full, read-only); what was written before is whole
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class CfalignError(Exception):
    """Base of everything cfalign raises on purpose."""


class BadInput(CfalignError, ValueError):
    """What the user gave cannot be used."""


class RunMismatch(BadInput):
    """A run directory belongs to other settings or another schema version."""


class BadModel(BadInput):
    """A model broke its contract: wrong shape, wrong range, NaN."""


class StorageFailed(CfalignError, OSError):
    """The disk refused; everything written before is whole."""


def nearest(name: str, valid: Iterable[str], *, most: int = 3) -> str:
    """The valid names closest to ``name``, ready to be put at the end of a sentence."""
    names = list(valid)
    close = get_close_matches(name, names, n=most, cutoff=0.4)
    if close:
        return "nearest valid: " + ", ".join(close)
    return "valid: " + ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
