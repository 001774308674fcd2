"""Values to files and back: a file is written beside its place and renamed into it, so it is whole or not there.

Tables and JSON follow from the dataclasses in ``_results``: a field is a column or a key, in the order of the fields.
A float is written by its shortest exact text. NaN is an empty field in CSV and null in JSON.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from cfalign._errors import BadInput, StorageFailed

Value = TypeVar("Value")
TYPES: Mapping[Any, type[pl.DataType]] = {str: pl.String, float: pl.Float64, int: pl.Int64}
"""The type of a column by the type of the field."""


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary path that becomes ``path`` when the block ends without an error.

    Raises StorageFailed when the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except (OSError, pl.exceptions.PolarsError, SafetensorError) as error:
        if isinstance(error, OSError) or "os error" in str(error).lower() or "I/O" in str(error):
            raise refused(path, error) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def refused(path: Path, error: Exception) -> StorageFailed:
    """The error of a disk that takes no more, or nothing at this place."""
    return StorageFailed(f"Could not write {path}: {_reason(error)}. {_remedy(error)}")


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")


def _remedy(error: Exception) -> str:
    refused = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)
    if isinstance(error, OSError) and error.errno in refused:
        return "Pick a folder that can be written to."
    return "What was written before is whole; make room and give the same command again to resume."


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with written(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all, by the rules of ``plain``."""
    write_text(path, json.dumps(plain(content), indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises BadInput when there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"The run lacks {path}: it is not complete; give its command again to resume it.") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as JSON ({error}): it is damaged; run the audit again.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds no JSON object at its top: it is damaged; run the audit again.")
    return content


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a table whole or not at all."""
    buffer = BytesIO()  # written by us, a full disk is an OSError; polars may say "invalid thrift" instead
    frame.write_parquet(buffer)
    with written(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read one shard. Raises BadInput when it is damaged."""
    try:
        return pl.read_parquet(path, columns=None if columns is None else list(columns))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> BadInput:
    """The error of a shard that cannot be read."""
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return BadInput(f"{path} is damaged ({reason}): delete that file and give the run's command again to make it anew.")


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors whole or not at all."""
    with written(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary)


def write_rows(path: Path, rows: Sequence[Any], kind: type) -> None:
    """Write one line of CSV for each dataclass of one kind, below a header with the names of its fields."""
    write_table(path, table_of(rows, kind))


def table_of(rows: Sequence[Any], kind: type) -> pl.DataFrame:
    """Dataclasses of one kind as a table; an undefined number is null."""
    columns = {name: [getattr(row, name) for row in rows] for name in schema(kind)}
    return pl.DataFrame(columns, schema=schema(kind)).with_columns(pl.col(pl.Float64).fill_nan(None))


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a table as CSV, whole or not at all."""
    write_text(path, table.write_csv())


def read_table(path: Path, kind: type) -> pl.DataFrame:
    """What ``write_rows`` wrote, as a table; an undefined number is null.

    Raises BadInput when the file is missing, has another header, or holds something else where a number belongs.
    """
    text = _read_columns(path, list(schema(kind)))
    columns = []
    for name, dtype in schema(kind).items():
        column = text[name].fill_null("") if dtype == pl.String else text[name].cast(dtype, strict=False)
        _refuse_other(path, text[name], column)
        columns.append(column)
    return pl.DataFrame(columns)


def read_rows(path: Path, kind: type[Value]) -> tuple[Value, ...]:
    """What ``write_rows`` wrote, as dataclasses; an undefined number is NaN. Raises BadInput as ``read_table`` does."""
    return rows_of(read_table(path, kind), kind)


def rows_of(table: pl.DataFrame, kind: type[Value]) -> tuple[Value, ...]:
    """The rows of a table as dataclasses of one kind; an undefined number is NaN."""
    known = table.with_columns(pl.col(pl.Float64).fill_null(float("nan")))
    return tuple(kind(**row) for row in known.iter_rows(named=True))


def schema(kind: type) -> dict[str, type[pl.DataType]]:
    """The columns of a dataclass whose fields are texts and numbers."""
    hints = get_type_hints(kind)
    return {f.name: TYPES[hints[f.name]] for f in fields(kind)}


def _read_columns(path: Path, header: Sequence[str]) -> pl.DataFrame:
    try:
        content = path.read_bytes()
        content.decode("utf-8")
        table = pl.read_csv(content, infer_schema=False)
    except FileNotFoundError:
        raise BadInput(f"The run lacks {path}: it is not complete; give its command again to resume it.") from None
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"{path} cannot be read as CSV ({reason}): it is damaged; run the audit again.") from error
    if table.columns != list(header):
        found, expected = ",".join(table.columns), ",".join(header)
        raise BadInput(f"{path} has the header {found!r} where {expected!r} was expected: run the audit again.")
    return table


def _refuse_other(path: Path, text: pl.Series, column: pl.Series) -> None:
    """Raise BadInput when a text is no number. An empty field is one, NaN, but not in a column of whole numbers."""
    bad = column.is_null() if column.dtype == pl.Int64 else column.is_null() & text.is_not_null()
    if bad.any():
        row = bad.arg_true()[0]
        raise BadInput(
            f"{path} has {text[row]!r} in column {text.name!r} of row {row + 1} where a number was expected: it was "
            "changed or damaged; run the audit again."
        )


def plain(value: Any) -> Any:
    """A value as JSON has it: a dataclass becomes an object, a tuple a list, and what is not finite null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, Enum):
        return value.value
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Misfit(ValueError):
    """A value that is not of the expected type; the message is the rest of a sentence that begins with the file."""


def built(kind: Any, value: Any, where: str = "") -> Any:
    """The reverse of ``plain``: a value of the type ``kind``, where null is NaN. Keys that no field has are left out.

    ``kind``: a dataclass, an Enum, text, number, or ``tuple`` and ``Mapping`` of these. ``where``: what to call the
    value in a message. Raises Misfit.
    """
    if is_dataclass(kind):
        return _built_dataclass(kind, value, where)
    if get_origin(kind) is tuple:
        entries = _expect(list, value, where)
        return tuple(built(get_args(kind)[0], entry, f"{where}[{i}]") for i, entry in enumerate(entries))
    if get_origin(kind) is not None and issubclass(get_origin(kind), Mapping):
        entries = _expect(dict, value, where)
        return {key: built(get_args(kind)[1], entry, f"{where}[{key!r}]") for key, entry in entries.items()}
    if kind in (float, int | float):
        number = float("nan") if value is None else _expect((int, float), value, where)
        return float(number) if kind is float else number
    if issubclass(kind, Enum):
        if value not in [member.value for member in kind]:
            raise Misfit(f"has {value!r} as {where} where one of {', '.join(kind)} was expected")
        return kind(value)
    return _expect(kind, value, where)


def _built_dataclass(kind: Any, value: Any, where: str) -> Any:
    entries = _expect(dict, value, where)
    hints = get_type_hints(kind)
    found = {}
    for f in fields(kind):
        name = f"{where}.{f.name}" if where else f.name
        if f.name not in entries:
            if f.default is not MISSING or f.default_factory is not MISSING:
                continue
            raise Misfit(f"lacks {name!r}")
        found[f.name] = built(hints[f.name], entries[f.name], name)
    return kind(**found)


_WORDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", (int, float): "a number"}


def _expect(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Misfit(f"has {value!r} as {where or 'its content'} where {_WORDS.get(kind, kind)} was expected")
    return value


def as_json(value: Any) -> Any:
    """``value`` as JSON would give it back: tuples become lists, NaN null."""
    return json.loads(json.dumps(plain(value), default=str))


def file_name(name: str) -> str:
    """A name as the name of a file, safe in every folder and different for different names.

    ``/`` becomes ``__``. Where more must change, a hash keeps names apart that would become the same.

    >>> file_name("smiling"), file_name("faces/1.png"), file_name("a:smiling")
    ('smiling', 'faces__1.png', 'a_smiling-6c7a94cf')
    """
    slashed = name.replace("/", "__")
    safe = re.sub(r"^\.|[^\w.+-]", "_", slashed)
    ambiguous = re.search("_[_/]|/_", name) is not None
    if safe == slashed and not ambiguous and 0 < len(safe.encode()) <= 200:
        return safe
    return f"{safe.encode()[:180].decode(errors='ignore')}-{sha256(name.encode()).hexdigest()[:8]}"
