"""Packages of extras: imported only when something asks for them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from cfalign._errors import BadInput


def imported(package: str, *, extra: str) -> Any:
    """The module ``package``. Raises BadInput, which names the extra, where it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        missing = error.name or package
        raise BadInput(
            f'This needs the package {missing!r}, which is not installed; pip install "cfalign[{extra}]" brings it.'
        ) from error
