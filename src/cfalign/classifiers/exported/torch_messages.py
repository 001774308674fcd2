"""Messages of torch while it reads a file: warnings are silenced, errors are shortened."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from cfalign._models.guard import described


def reason(error: Exception) -> str:
    """The cause of an error, from the many lines of a C++ or TorchScript message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error: " in line]
    if "Traceback of TorchScript" in str(error) and telling:
        return telling[-1].rstrip(".")[:300]
    if not lines:
        return described(error)
    first = lines[0].partition(". This is an internal")[0].rstrip(".")
    return f"{type(error).__name__}: {first[:300]}"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's warnings and log lines. Errors are still raised."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
