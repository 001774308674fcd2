"""Settings from a TOML file, from ``--set`` and from flags, read into options dataclasses."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer

from cfalign._cli.conflicts import refuse_conflicts
from cfalign._errors import BadInput
from cfalign._validation import from_mapping

T = TypeVar("T")


def chosen(
    context: typer.Context,
    kind: type[T],
    *,
    config: Path | None,
    assignments: Sequence[str] | None,
    flags: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> T:
    """The options that a command was given. ``defaults``: values for what it was not given.

    Raises BadInput for an unknown name, for a value that does not fit, and for what has no effect beside the rest.
    """
    settings = given_settings(config=config, assignments=assignments or (), flags=flags)
    refuse_conflicts(context, _dotted(settings))
    return from_mapping(kind, {**(defaults or {}), **settings})


def given_settings(*, config: Path | None, assignments: Sequence[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says, then ``--set name=value``, then flags that are given; nested as a TOML file is.

    The names of nested settings are dotted in assignments and flags (``search.drop``).
    """
    values: dict[str, Any] = {} if config is None else _read(config)
    for text in assignments:
        name, separator, value = text.partition("=")
        if not separator:
            raise BadInput(f"--set: expected name=value, such as search.drop=0.5, got {text!r}.")
        _put(values, name.strip(), _parsed(value.strip()))
    for name, value in flags.items():
        if value is not None:
            _put(values, name, value)
    return values


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"There is no settings file {str(path)!r}.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"{path} cannot be read as TOML: {error}.") from error


def _parsed(text: str) -> Any:
    """A value as TOML writes it; a text may stand without quotes, and ``none`` for no value."""
    if text == "none":
        return None
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    *groups, last = name.split(".")
    for group in groups:
        values = values.setdefault(group, {})
        if not isinstance(values, dict):
            raise BadInput(f"{name}: expected {group} to be a group of settings, got {values!r}.")
    values[last] = value


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
