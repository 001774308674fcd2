"""User code named on the command line: ``path/to/file.py:factory``."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import redirect_stdout
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from torch import nn

from cfalign._errors import BadInput, nearest
from cfalign._models.guard import described

_PREFIX = "_cfalign_user_"


def is_factory(spec: str) -> bool:
    """Whether a model spec names a Python file."""
    return ".py:" in spec or spec.endswith(".py")


def call_factory(spec: str) -> Any:
    """Import the file and call the factory without arguments; a name that is no callable is returned as it is.

    Raises BadInput when the file or the name is missing or the user's code raises, naming the user's error and line.
    """
    file, _, name = spec.rpartition(":") if not spec.endswith(".py") else (spec, "", "")
    if not name:
        raise BadInput(f"{spec!r} names a file but no factory; expected path/to/file.py:factory.")
    path = Path(file).expanduser()
    if not path.is_file():
        raise BadInput(f"There is no file {file!r}; expected path/to/file.py:factory.")
    module = _imported(path)
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise BadInput(f"{file} defines no {name!r}; {nearest(name, public)}.")
    found = getattr(module, name)
    if not callable(found) or _is_model(found):
        return found
    try:
        with redirect_stdout(sys.stderr):  # stdout is for results
            return found()
    except (Exception, SystemExit) as error:
        raise BadInput(f"{spec} raised {_described(error, path)}.") from error


def modules_of_files() -> list[ModuleType]:
    """The Python files that were named so far, as modules; no other process can import them by their names."""
    return [module for name, module in list(sys.modules.items()) if name.startswith(_PREFIX)]


def _is_model(found: Any) -> bool:
    model = isinstance(found, nn.Module) or hasattr(found, "decode") or hasattr(found, "logits")
    return model and not isinstance(found, type)


class _AsWritten(SourceFileLoader):
    """Compiles a file anew each time; Python takes a compiled one of a file as long and of the same second for new."""

    def get_code(self, fullname: str) -> CodeType:
        """The code of the file as it is now."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _imported(path: Path) -> ModuleType:
    name = f"{_PREFIX}{path.stem}_{sha256(bytes(path.resolve())).hexdigest()[:8]}"
    specification = importlib.util.spec_from_file_location(name, path, loader=_AsWritten(name, str(path)))
    if specification is None or specification.loader is None:
        raise BadInput(f"{path} cannot be imported as Python; expected path/to/file.py:factory.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # so that the file may import its neighbours
    compiled, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # neither are neighbours kept compiled
    try:
        with redirect_stdout(sys.stderr):
            specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise BadInput(f"{path} could not be imported: {_described(error, path)}.") from error
    finally:
        sys.dont_write_bytecode = compiled
        if folder in sys.path:  # the user's file may have rearranged it
            sys.path.remove(folder)
    return module


def _described(error: BaseException, path: Path) -> str:
    line = None
    trace = error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f" (line {line})" if line is not None else ""
    return f"{described(error)}{where}"
