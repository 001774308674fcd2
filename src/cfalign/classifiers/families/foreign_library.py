"""Calls of a library that builds or downloads a model: every error there becomes one sentence."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from cfalign._errors import BadInput, CfalignError
from cfalign._models.guard import described


@contextmanager
def library_call(what: str, *, instead: str) -> Iterator[None]:
    """Any error inside becomes BadInput: "<what> could not be loaded: <error>; <instead>."

    The library's own output goes to stderr, because stdout is for results.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (CfalignError, MemoryError):
        raise
    except Exception as error:
        raise BadInput(f"{what} could not be loaded: {described(error)}; {instead}.") from error
