"""Values to files and back: a file is written beside its place and renamed into it, so it is whole or not there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from cfalign._errors import BadInput, StorageFailed
from cfalign._results import Cell, Effect, GroupGap


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary path that becomes ``path`` when the block ends well; a disk that refuses raises StorageFailed."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except (OSError, pl.exceptions.PolarsError, SafetensorError) as error:
        if isinstance(error, OSError) or "os error" in str(error).lower() or "I/O" in str(error):
            raise StorageFailed(f"Could not write {path}: {_reason(error)}. {_remedy(error)}") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


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
    """Write JSON whole or not at all; NaN becomes null."""
    write_text(path, json.dumps(_nan_to_null(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _nan_to_null(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _nan_to_null(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_to_null(v) for v in value]
    return None if isinstance(value, float) and value != value else value


def write_parquet(path: Path, frame: pl.DataFrame) -> None:
    """Write a table whole or not at all."""
    buffer = BytesIO()  # written by us, a full disk is an OSError; polars may say "invalid thrift" instead
    frame.write_parquet(buffer)
    with written(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """One shard. BadInput when it is damaged."""
    try:
        return pl.read_parquet(path, columns=None if columns is None else list(columns))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> BadInput:
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    return BadInput(f"{path} is damaged ({reason}): delete that file and give the run's command again to make it anew.")


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors whole or not at all."""
    with written(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary)


def write_rows(path: Path, rows: Sequence[Any], kind: type[Cell | Effect | GroupGap]) -> None:
    """``matrix.csv``, ``effects.csv``, ``gaps.csv``: one line a row, floats by their shortest exact text, NaN empty."""
    names = [f.name for f in fields(kind)]
    lines = [",".join(names)]
    lines += [",".join(_field(getattr(row, name)) for name in names) for row in rows]
    write_text(path, "\n".join(lines) + "\n")


def _field(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    text = str(value)
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if any(c in text for c in ',"\n') else text


def as_json(value: Any) -> Any:
    """``value`` as JSON would give it back: tuples become lists, NaN null."""
    return json.loads(json.dumps(_nan_to_null(value), default=str))
