"""Parts of one run, measured apart, in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile
from typing import Any

from cfalign._errors import BadInput
from cfalign._runs.codec import write_json, written
from cfalign._runs.record import IDENTITY, opened, refuse_other
from cfalign._runs.run import Run

SHARDS = ("scores", "ineligible", "tensors", "responses")
"""Kinds of shards, that which says that a chunk is done at the end."""
_PREPARED = ("components.safetensors", "methods.json")


def merge(parts: Sequence[str | Path], *, out: str | Path) -> Run:
    """Put the parts of a run, each made with an engine that does a part of the work, together in the folder ``out``.

    The call that made a part, with ``out`` and without a part, then finishes the run: it measures what is missing and
    concludes. Raises BadInput for a folder without a run and for a part that is finished already, and RunMismatch
    where the parts are not of one run.

    >>> cfa.merge([], out="runs/whole")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    BadInput: ...
    """
    if not parts:
        raise BadInput("merge: expected at least one run folder to put together, got none.")
    runs = [Run(part) for part in parts]
    records = [run.record() for run in runs]
    for run, content in zip(runs, records, strict=True):
        if content["status"] == "complete":
            raise BadInput(f"{run.path} is a finished run, not a part of one; only parts are put together.")
        refuse_other(_identity(records[0]), _identity(content), run.path)
    with opened(out, _begun(records[0])) as (whole, _):
        for run in runs:
            _copy(run, whole)
        seconds = sum(sum((content.get("timing") or {}).values()) for content in records)
        write_json(whole.path / "run.json", {**whole.record(), "timing": {"seconds_before": seconds}})
    return whole


def _identity(content: dict[str, Any]) -> dict[str, Any]:
    return {key: content.get(key) for key in IDENTITY}


def _begun(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in ("status", "timing", "given")}


def _copy(part: Run, whole: Run) -> None:
    files = [part.path / name for name in _PREPARED]
    files += [shard for kind in SHARDS for shard in part.shards(kind)]
    for file in files:
        target = whole.path / file.relative_to(part.path)
        if file.is_file() and not target.exists():
            with written(target) as temporary:
                copyfile(file, temporary)
