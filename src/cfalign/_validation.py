"""Options: frozen dataclasses whose annotations say what every field may hold.

The constructor, a TOML file, ``--set`` and ``cfalign settings`` read the same annotations, by pydantic. A value that
does not fit raises BadInput. Rules across fields stand in ``__post_init__``; their message begins with a field's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import reduce, wraps
from typing import Annotated, Any, TypeVar, dataclass_transform

import numpy as np
import pydantic
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from cfalign._errors import BadInput, nearest

T = TypeVar("T")

Count = Annotated[int, Field(ge=1)]
BitDepth = Annotated[int, Field(ge=1, le=16)]
Device = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Draws = Annotated[int, Field(ge=100)]
Share = Annotated[float, Field(ge=0, le=1)]
Correlation = Annotated[float, Field(ge=-1, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]

_CHECKED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
_KINDS = {"number": "a number", "integer": "a whole number", "string": "a text", "boolean": "true or false"}
_KINDS |= {"null": "none", "object": "a group of settings"}
_MANY = {"number": "numbers", "integer": "whole numbers", "string": "texts"}
_BOUNDS = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def options(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """Makes a class a frozen dataclass whose fields are checked when it is constructed."""

    def made(cls: type[T]) -> type[T]:
        checked: Any = pydantic.dataclasses.dataclass(cls, frozen=True, kw_only=kw_only, config=_CHECKED)
        construct = checked.__init__

        @wraps(construct)
        def init(self: T, *args: Any, **kwargs: Any) -> None:
            plain = {name: _plain(value) for name, value in kwargs.items()}
            try:
                construct(self, *map(_plain, args), **plain)
            except ValidationError as error:
                raise _refusal(error, checked, start=cls.__name__) from None

        checked.__init__ = init
        result: type[T] = checked
        return result

    return made


def refuse_idle(options: Any, *names: str, needs: str) -> None:
    """Raises BadInput where a field is set although it has no effect without ``needs``.

    ``names``: the fields, those of nested options with dotted names. A field is set when it differs from its default.
    """
    for name in names:
        *groups, last = name.split(".")
        owner = reduce(getattr, groups, options)
        value, default = getattr(owner, last), next(_default(each) for each in fields(owner) if each.name == last)
        if is_dataclass(value):
            refuse_idle(options, *(f"{name}.{each.name}" for each in fields(value)), needs=needs)
        elif value != default:
            raise BadInput(f"{name}={value!r} has no effect without {needs}.")


def from_mapping(kind: type[T], values: Mapping[str, Any]) -> T:
    """Options from nested settings, as a TOML file holds them. Raises BadInput with the full name of the setting."""
    text = json.dumps(values, default=str)  # strict JSON takes lists for tuples and tables for options
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise _refusal(error, kind, start="") from None


@dataclass(frozen=True)
class Setting:
    """One field of options: what a person may set, and to what."""

    name: str
    """Dotted, such as ``search.drop``."""
    expected: str
    default: Any
    meaning: str


def settings_of(kind: type) -> list[Setting]:
    """All settings of options, those of nested options with dotted names."""
    whole = TypeAdapter(kind).json_schema()
    return list(_walk(kind, whole, whole, ""))


def _walk(kind: type, schema: Mapping[str, Any], whole: Mapping[str, Any], prefix: str) -> Iterator[Setting]:
    for each in fields(kind):
        described = schema["properties"][each.name]
        default = _default(each)
        if is_dataclass(default):
            yield from _walk(type(default), _resolved(described, whole), whole, f"{prefix}{each.name}.")
        else:
            yield Setting(f"{prefix}{each.name}", _expected(described, whole), default, _meaning(kind, each.name))


def _meaning(kind: type, name: str) -> str:
    """The docstring of a field, or of the one that it overrides, in one line and without markup."""
    known = (getattr(owner, "__pydantic_fields__", {}).get(name) for owner in kind.__mro__)
    text = next((found.description for found in known if found is not None and found.description), "")
    return " ".join(text.replace("``", "").split())


def _default(each: Any) -> Any:
    return each.default_factory() if each.default_factory is not MISSING else each.default


def _plain(value: Any) -> Any:
    """Lists as tuples, NumPy's scalars as Python's: strict checks ask for them."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _refusal(error: ValidationError, kind: type, *, start: str) -> BadInput:
    """The first error as one sentence; ``start``: the class that was constructed, empty for settings."""
    first = error.errors()[0]
    path = list(first["loc"])
    if start and path and isinstance(path[0], int):  # a positional argument
        path[0] = fields(kind)[path[0]].name
    names = [part for part in path if isinstance(part, str)]
    where = ".".join([start, *names] if start else names)
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, BadInput):  # by a rule across fields
        return BadInput(f"{where}.{raised}" if where else str(raised))
    whole = TypeAdapter(kind).json_schema()
    if first["type"] == "unexpected_keyword_argument":
        group = _at(names[:-1], whole)
        return BadInput(f"Unknown setting {where!r}; {nearest(names[-1], group['properties'])}.")
    schema = _at(names, whole)
    expected = _expected(schema, whole)
    if "properties" in schema:
        expected += f", e.g. {where}.{next(iter(schema['properties']))}"
    return BadInput(f"{where}: expected {expected}, got {first['input']!r}.")


def _at(names: Sequence[str], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON schema of the field with these nested names."""
    schema = whole
    for name in names:
        schema = _resolved(schema["properties"][name], whole)
    return schema


def _resolved(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    return whole["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _expected(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """What a value has to be, in words."""
    schema = _resolved(schema, whole)
    if "anyOf" in schema:
        return ", or ".join(_expected(part, whole) for part in schema["anyOf"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if schema["type"] == "array":
        items = _resolved(schema.get("items", {}), whole)
        least = "one or more " if schema.get("minItems") else ""
        return f"a list of {least}{_MANY.get(items.get('type', ''), 'values')}{_bounds(items)}"
    return _KINDS[schema["type"]] + _bounds(schema)


def _bounds(schema: Mapping[str, Any]) -> str:
    said = [f"{word} {schema[bound]:g}" for bound, word in _BOUNDS.items() if bound in schema]
    return f" {' and '.join(said)}" if said else ""
