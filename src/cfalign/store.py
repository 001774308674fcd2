"""A run directory: written in whole pieces, read back as tables. Nothing in it is ever half-written.

Every file is written beside its place and renamed into it, so a process killed at any moment leaves whole shards only;
the shards present say how far a run has come.
"""

from __future__ import annotations

import errno
import hashlib
import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from io import BytesIO
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from cfalign.errors import BadInput, RunMismatch, StorageFailed
from cfalign.isolation import held_by
from cfalign.results import Cell, Effect, Finding, GroupGap
from cfalign.selection import Selection, select, sql

SCHEMA = 2


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
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> BadInput:
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


def fingerprint(model: Any) -> str:
    """SHA-256 (16 hex digits) of what decides a model's answers: class, source code, plain attributes, weights.

    Looks at the objects that the model holds too (``isolation.held_by``), not at attributes that begin with an
    underscore and not at code that it merely calls. The same in every process and wherever the files lie.
    """
    digest = hashlib.sha256()
    for thing in held_by(model):
        digest.update(f"{type(thing).__qualname__}\n".encode())
        if isinstance(thing, nn.Module):
            digest.update(re.sub(r"0x[0-9a-f]+", "", repr(thing)).encode())
            for sub in thing.modules():
                _digest_object(digest, sub)
            for name, tensor in thing.state_dict().items():
                digest.update(name.encode())
                _digest_array(digest, tensor)
        else:
            _digest_object(digest, thing)
    return digest.hexdigest()[:16]


def _digest_object(digest: Any, thing: Any) -> None:
    owner = thing if isinstance(thing, FunctionType) else type(thing)
    if getattr(owner, "__module__", "").partition(".")[0] not in ("torch", "cfalign", "functools", "builtins"):
        digest.update(_code(owner).encode())
    if isinstance(thing, nn.Module) and type(thing).__module__.startswith("torch."):
        return  # its repr has said it
    for name, value in sorted(getattr(thing, "__dict__", {}).items()):
        if name.startswith("_") or (name == "training" and isinstance(thing, nn.Module)):
            continue
        if name == "spec" and type(thing).__module__.startswith("cfalign."):
            continue  # where it was loaded from decides no answer
        arrays = value if isinstance(value, list | tuple) else [value]
        if all(isinstance(v, torch.Tensor | np.ndarray) for v in arrays):
            for array in arrays:
                digest.update(name.encode())
                _digest_array(digest, torch.as_tensor(array))
        elif all(isinstance(v, bool | int | float | str | None) for v in arrays):
            digest.update(f"{name}={value!r}\n".encode())


def _code(owner: Any) -> str:
    try:
        return inspect.getsource(owner)
    except (OSError, TypeError):  # typed at a prompt, or built in
        compiled = getattr(owner, "__code__", None)
        return "" if compiled is None else compiled.co_code.hex()


def _digest_array(digest: Any, tensor: torch.Tensor) -> None:
    digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
    digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())


class Run:
    """One audit's (or bank's) directory."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def record(self) -> dict[str, Any]:
        """The content of ``run.json``; BadInput when this is not a run directory."""
        file = self.path / "run.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadInput(f"{self.path} is not a run directory: it holds no run.json.") from None
        except (OSError, ValueError) as error:
            raise BadInput(f"{file} cannot be read: {error}.") from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            found = content.get("schema") if isinstance(content, dict) else None
            raise RunMismatch(
                f"{file} has schema version {found!r}; this cfalign reads version {SCHEMA}. Use another --out."
            )
        return content

    def shards(self, kind: str) -> list[Path]:
        """The shards of ``scores``, ``responses``, ``curves`` or ``tensors`` in order."""
        return sorted(p for p in (self.path / kind).glob("*") if not p.name.startswith("."))

    def table(self, kind: str) -> pl.DataFrame:
        """All rows of ``scores``, ``responses`` or ``curves``."""
        shards = self.shards(kind)
        if not shards:
            raise BadInput(f"{self.path} holds no {kind}: the run is empty or was stopped before its first shard.")
        return pl.concat([read_parquet(p) for p in shards], how="vertical")

    def responses(self) -> pl.DataFrame:
        """One row per (image, base)."""
        return self.table("responses")

    def scores(self) -> pl.DataFrame:
        """One row per image: scores on the image and on its reconstruction."""
        return self.table("scores")

    def matrix(self) -> pl.DataFrame:
        """The alignment matrix in long form, the columns of ``Cell``."""
        return self._csv("matrix.csv", Cell)

    def effects(self, audited: str | None = None) -> pl.DataFrame:
        """Effects of every attribute, the columns of ``Effect``, strongest first; of one audited head when named."""
        table = self._csv("effects.csv", Effect)
        return _of(table, audited).sort(pl.col("effect").abs(), descending=True, nulls_last=True)

    def gaps(self, audited: str | None = None) -> pl.DataFrame:
        """How differently an audited head answers images with an attribute and without, and through what: the columns
        of ``GroupGap``, largest gap first; of one audited head when named.
        """
        table = self._csv("gaps.csv", GroupGap).with_columns(pl.col("through").fill_null(""))
        return _of(table, audited).sort(pl.col("gap").abs(), descending=True, nulls_last=True)

    def findings(self) -> list[dict[str, Any]]:
        """The findings with their evidence, best first."""
        return self._found("findings")

    def relations(self) -> list[dict[str, Any]]:
        """What goes together but is not used, is used but does not go together, and is used one way only."""
        return self._found("relations")

    def _found(self, key: str) -> list[dict[str, Any]]:
        try:
            content = json.loads((self.path / "findings.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.path} holds no readable findings.json: the run did not end ({error}).") from error
        found: list[dict[str, Any]] = content[key]
        return found

    def top(self, base: str, downstream: str, *, k: int = 20) -> pl.DataFrame:
        """The images behind a cell: the ``k`` with the largest |ψ|, ψ undefined (null) where the base hardly moved."""
        minimum = self._min_base_change()
        rows = self.responses().filter(pl.col("base") == base)
        if rows.is_empty() or f"after.{downstream}" not in rows.columns:
            raise BadInput(f"The run has no cell ({base!r}, {downstream!r}); see `matrix.csv` for those it has.")
        change = pl.col("base_after") - pl.col("base_before")
        rows = rows.filter(change.is_not_nan())  # NaN, which polars sorts first, where there is no counterfactual
        response = pl.col(f"after.{downstream}") - pl.col(f"before.{downstream}")
        psi = pl.when(change.abs() >= minimum).then(response / change)
        chosen = rows.select("image_id", "outcome", "lambda", "base_before", "base_after", psi.alias("psi"))
        return chosen.sort(pl.col("psi").abs(), descending=True, nulls_last=True).head(k)

    def query(
        self,
        where: str | None = None,
        *,
        base: str | None = None,
        downstream: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> pl.DataFrame:
        """The (image, base) rows that meet a condition, in order: ``where`` is an expression over the columns of
        ``responses``, in which ``smiling`` is a score on the counterfactual, and ``before.smiling``,
        ``change.smiling``, ``psi.smiling`` and ``base_change`` are known too. See ``Selection`` for the rest.

        Undefined numbers are null. BadInput names the nearest valid names of an unknown one.
        """
        wanted = Selection(base=base, downstream=downstream, where=where, sort=sort)
        rows = select(self.responses(), wanted, min_base_change=self._min_base_change())
        return rows if limit is None else rows.head(limit)

    def sql(self, text: str) -> pl.DataFrame:
        """The answer of a SQL query over the tables ``responses`` and ``scores``; friendly names as in ``query``."""
        tables = {"responses": self.responses(), "scores": self.scores()}
        return sql(text, tables, min_base_change=self._min_base_change())

    def _min_base_change(self) -> float:
        return float(self.record()["settings"]["alignment"]["min_base_change"])

    def tensors(self, shard: Path) -> dict[str, torch.Tensor]:
        """The images that a bank keeps. BadInput when the file is damaged."""
        try:
            return load_file(shard)
        except (OSError, SafetensorError) as error:
            raise _damaged(shard, error) from error

    def write_findings(self, findings: Sequence[Finding], relations: Sequence[Any] = ()) -> None:
        """Write ``findings.json``; ``relations`` are dataclasses."""
        content = {"findings": [asdict(f) for f in findings], "relations": [asdict(r) for r in relations]}
        write_json(self.path / "findings.json", content)

    def _csv(self, name: str, kind: type[Cell | Effect | GroupGap]) -> pl.DataFrame:
        file = self.path / name
        if not file.is_file():
            raise BadInput(f"{self.path} holds no {name}: the run did not end; give its command again to resume it.")
        types = {"str": pl.String, "float": pl.Float64, "int": pl.Int64}
        return pl.read_csv(file, schema={f.name: types[str(f.type)] for f in fields(kind)})


def _of(table: pl.DataFrame, audited: str | None) -> pl.DataFrame:
    """The rows of one audited head, with or without the name of its classifier before it."""
    if audited is None:
        return table
    return table.filter((pl.col("audited") == audited) | pl.col("audited").str.ends_with(f":{audited}"))


def refuse_other(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    """Raise RunMismatch that names the first differences when a run directory belongs to other settings."""
    different = list(_differences(old, new, ""))
    if different:
        raise RunMismatch(
            f"{path} holds another run: {'; '.join(different[:3])}. Give another --out, or remove that folder to start "
            "again."
        )


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
    elif old != new:
        yield f"{where} was {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def as_json(value: Any) -> Any:
    """``value`` as JSON would give it back: tuples become lists, NaN null."""
    return json.loads(json.dumps(_nan_to_null(value), default=str))
