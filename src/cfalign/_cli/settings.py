"""Options from a TOML file and from flags, read into options dataclasses."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cfalign._errors import BadInput
from cfalign._validation import from_mapping

T = TypeVar("T")
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Let model files that are pickles run code, any code, when they are read; only for files whose origin you "
        "trust. Off, such a file is refused.",
    ),
]


def options(kind: type[T], *, config: Path | None, assignments: Sequence[str], flags: Mapping[str, Any]) -> T:
    """Options: their defaults, then the TOML file, then ``--set name=value``, then flags that are given.

    Names of nested options are dotted (``search.drop``). Raises BadInput for an unknown name and for a value that does
    not fit.
    """
    return from_mapping(kind, given_settings(config=config, assignments=assignments, flags=flags))


def given_settings(*, config: Path | None, assignments: Sequence[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """What the file, ``--set`` and flags say, nested as a TOML file is."""
    values: dict[str, Any] = _read(config) if config else {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator:
            raise BadInput(f"--set: expected name=value, such as search.drop=0.5, got {text!r}.")
        _put(values, key.strip(), _parsed(value.strip()))
    for key, value in flags.items():
        if value is not None:
            _put(values, key, value)
    return values


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"There is no settings file {str(path)!r}.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path} cannot be read as TOML: {error}.") from error


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise BadInput(f"{key}: expected {parent} to be a group of settings, got {values!r}.")
    values[last] = value
