"""Which code is the user's own, and what it names: globals, modules of the user, what a function closes over."""

from __future__ import annotations

import dis
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec, resolve_name
from pathlib import Path, PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent
_INSTALLED = ("site-packages", "dist-packages")
_PLACES = tuple(str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib"))
_OF_A_FILE = ("__file__", "__name__", "__spec__", "__path__", "__cached__", "__loader__", "__package__")


def is_own(code: FunctionType | type | ModuleType) -> bool:
    """Whether a function, class or module is the user's: not cfalign's, Python's or an installed package's."""
    if isinstance(code, FunctionType):
        return _own_file(code.__code__.co_filename)
    module = code if isinstance(code, ModuleType) else sys.modules.get(code.__module__)
    if module is None:
        return True  # its module is gone, so nothing else can speak for it
    file = getattr(module, "__file__", None)
    return module.__name__ == "__main__" if file is None else _own_file(file)


def passed_own_code(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, came through a file of the user's."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        trace = link.__traceback__
        while trace is not None:
            if _own_file(trace.tb_frame.f_code.co_filename) and trace.tb_frame.f_globals.get("__name__") != "__main__":
                return True
            trace = trace.tb_next
        link = link.__cause__ or link.__context__
    return False


@lru_cache(maxsize=4096)
def _own_file(name: str) -> bool:
    if name.startswith("<frozen"):
        return False
    if name.startswith("<"):
        return True  # typed at a prompt, or generated
    path = Path(name).resolve()
    if path.is_relative_to(PACKAGE) or any(part in _INSTALLED for part in path.parts):
        return False
    return not any(path.is_relative_to(place) for place in _PLACES)


def own_places() -> list[str]:
    """The folders of ``sys.path`` from which code of the user's, or cfalign, is imported."""
    found = [str(PACKAGE.parent)]
    for place in sys.path:
        path = Path(place).resolve()
        installed = any(part in _INSTALLED for part in path.parts) or path.suffix == ".zip"
        if not installed and not any(path.is_relative_to(there) for there in _PLACES):
            found.append(str(path))
    return list(dict.fromkeys(found))


def package_of(code: FunctionType | type | ModuleType) -> str:
    """The full name of the module that a function, class or module belongs to."""
    if isinstance(code, FunctionType):
        return str(code.__globals__.get("__name__", ""))
    return code.__name__ if isinstance(code, ModuleType) else str(code.__module__)


def closure(function: FunctionType) -> dict[str, Any]:
    """What a function closes over, by name, but for names that are not bound yet."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def named_globals(function: FunctionType) -> dict[str, Any]:
    """The globals that a function's code names, by name; of a module of the user's, what the code names in it.

    A path that begins with the folder of the function's file is given relative to it. What the function imports when
    it is called counts too.
    """
    names, attributes, imports = _named(function.__code__)
    scope = function.__globals__
    found = {name: scope[name] for name in names if name in scope and name not in _OF_A_FILE}
    for name, level in imports:
        if (module := _imported(name, level, scope)) is not None:
            found[f"import {name}"] = module
    values: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, ModuleType) and is_own(value):
            values.update(_in_module(name, value, attributes, frozenset()))
        else:
            values[name] = _without_folder(value, scope.get("__file__"))
    return values


def _in_module(
    label: str, module: ModuleType, names: frozenset[str], seen: frozenset[int]
) -> Iterator[tuple[str, Any]]:
    """What ``names`` are in a module of the user's, and in such modules inside it."""
    for name in names & set(vars(module)) - set(_OF_A_FILE):
        value = vars(module)[name]
        if isinstance(value, ModuleType) and is_own(value):
            if id(value) not in seen:
                yield from _in_module(f"{label}.{name}", value, names, seen | {id(module)})
        else:
            yield f"{label}.{name}", _without_folder(value, getattr(module, "__file__", None))


def _without_folder(value: Any, file: object) -> Any:
    """A path below the folder of the code that names it, relative to that folder; anything else as it is."""
    if not isinstance(file, str) or not isinstance(value, str | PurePath):
        return value
    folder, text = str(Path(file).resolve().parent), str(value)
    return f".{text.removeprefix(folder)}" if text.startswith(folder) else value


def _imported(name: str, level: int, scope: Mapping[str, Any]) -> ModuleType | None:
    """A module of the user's that a function imports; None for others, and where it cannot be imported."""
    try:
        full = resolve_name("." * level + name, str(scope.get("__package__") or "")) if level else name
        origin = sys.modules[full].__file__ if full in sys.modules else getattr(find_spec(full), "origin", None)
        return import_module(full) if origin is not None and _own_file(origin) else None
    except Exception:  # the function's own import will say it
        return None


@lru_cache(maxsize=4096)
def _named(code: CodeType) -> tuple[frozenset[str], frozenset[str], tuple[tuple[str, int], ...]]:
    """Globals, attributes and imports (name, level) that the code and the functions inside it name."""
    names: set[str] = set()
    attributes: set[str] = set()
    imports: list[tuple[str, int]] = []
    before: list[Any] = [0, 0]  # values of the last two instructions: before an import, its level and its names
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names.add(step.argval)
        elif step.opname == "IMPORT_NAME":
            imports.append((step.argval, before[0] if isinstance(before[0], int) else 0))
            attributes.update(before[1] if isinstance(before[1], tuple) else ())
        elif isinstance(step.argval, str):
            attributes.add(step.argval)
        before = [before[1], step.argval]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _named(constant)
            names |= inner[0]
            attributes |= inner[1]
            imports += inner[2]
    return frozenset(names), frozenset(attributes), tuple(imports)


def attributes(thing: Any) -> dict[str, Any]:
    """The attributes of an object by name, those in ``__slots__`` too."""
    found = {}
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in [slots] if isinstance(slots, str) else list(slots):
            name = f"_{kind.__name__.lstrip('_')}{slot}" if slot.startswith("__") and not slot.endswith("__") else slot
            if slot not in ("__dict__", "__weakref__") and hasattr(thing, name):
                found[name] = getattr(thing, name)
    found.update(getattr(thing, "__dict__", {}))
    return {str(name): value for name, value in found.items()}
