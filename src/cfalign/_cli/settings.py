"""Options from a TOML file and from flags, both mapped 1:1 to the fields of the option dataclasses."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer

from cfalign._errors import BadInput, nearest

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
    """An options dataclass: its defaults, then the TOML file, then ``--set name=value``, then flags that are given.

    Nested fields are written ``search.drop``. BadInput names the nearest valid key for an unknown one.
    """
    values: dict[str, Any] = _read(config) if config else {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator:
            raise BadInput(f"--set expects name=value, e.g. --set search.drop=0.5, got {text!r}.")
        _put(values, key.strip(), _parsed(value.strip()))
    for key, value in flags.items():
        if value is not None:
            _put(values, key, value)
    return _built(kind, values, "")


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
            raise BadInput(f"{key!r} names a part of {parent!r}, which is a plain value.")
    values[last] = value


def _built(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    hints = get_type_hints(kind)
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        full = f"{where}{key}"
        if key not in known:
            raise BadInput(f"Unknown setting {full!r}; {nearest(key, known)}.")
        expected = hints[key]
        if is_dataclass(expected):
            if not isinstance(value, Mapping):
                first = fields(expected)[0].name
                raise BadInput(f"{full!r} is a group of settings, e.g. {full}.{first}; got {value!r}.")
            arguments[key] = _built(expected, value, f"{full}.")  # type: ignore[arg-type]
        else:
            if get_origin(expected) is Literal and value not in get_args(expected):
                raise BadInput(f"{full!r} must be one of {', '.join(map(str, get_args(expected)))}; got {value!r}.")
            arguments[key] = _checked(value, _example(kind, key, expected), full)
    return kind(**arguments)


def _example(kind: type, name: str, expected: Any) -> Any:
    """The default, or a value of the right type where the default is None or missing; None when there is none."""
    field = next(f for f in fields(kind) if f.name == name)
    if field.default is not MISSING and field.default is not None:
        return field.default
    plain = next((t for t in (float, int, str) if t is expected or t in get_args(expected)), None)
    return None if plain is None else {float: 0.5, int: 1, str: "text"}[plain]


def _checked(value: Any, default: Any, name: str) -> Any:
    """The value as the default's type; BadInput when it is of another kind."""
    if isinstance(default, bool | str | None):
        fits = default is None or type(value) is type(default)
    elif isinstance(default, float):
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        value = float(value) if fits else value
    elif isinstance(default, int):
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif isinstance(default, tuple):
        fits = isinstance(value, list | tuple)
        value = tuple(value) if fits else value
    else:
        fits = True
    if not fits:
        kinds = {bool: "true or false", str: "a text", float: "a number", int: "a whole number"}
        expected = kinds.get(type(default), "a list")
        raise BadInput(f"{name!r} must be {expected} such as {default!r}, got {value!r}.")
    return value
