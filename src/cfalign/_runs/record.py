"""``run.json``: the settings, models and data of a run, and whether it is complete."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import polars as pl
import torch

from cfalign import __version__
from cfalign._errors import BadInput, BadModel, RunMismatch, StorageFailed
from cfalign._models.fingerprint import UNKNOWN, fingerprint
from cfalign._runs.codec import as_json, write_json
from cfalign._runs.progress import Progress
from cfalign._runs.run import SCHEMA, Run
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import ImageSource
from cfalign.datasets.inventory import inventory_record

IDENTITY = ("schema", "settings", "models", "data")


def record(
    *,
    settings: Mapping[str, Any],
    classifiers: Sequence[tuple[Classifier, str]],
    autoencoder: Autoencoder | None = None,
    source: ImageSource | None = None,
    bank: str | None = None,
) -> dict[str, Any]:
    """The part of ``run.json`` that is known before any work: the identity of the run."""
    models: dict[str, Any] = {
        "classifiers": [
            {"name": c.name, "role": role, "targets": list(c.targets), "hash": fingerprint(c)}
            for c, role in classifiers
        ]
    }
    if autoencoder is not None:
        name = getattr(autoencoder, "name", type(autoencoder).__name__)
        models["autoencoder"] = {"name": name, "hash": fingerprint(autoencoder)}
    data: dict[str, Any] = (
        {"bank": bank} if source is None else {"source": source.source, "hash": source.fingerprint()[:16]}
    )
    if source is not None:
        data["images"] = len(source.ids)
    return {
        "schema": SCHEMA,
        "cfalign": __version__,
        "torch": str(torch.__version__),
        "seed": settings.get("seed"),
        "settings": as_json(settings),
        "models": models,
        "data": data,
        **inventory_record(source),
    }


class Stopwatch:
    """Passes progress on and sums the seconds of each stage; the time between two reports belongs to the later one."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.perf_counter()
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + now - self._last, 3)
        self._last = now
        self._progress(stage, done, total)

    def spent(self) -> dict[str, Any]:
        """For ``run.json``: seconds of each stage since the command began, threads, peak memory so far."""
        usage = {"stages": self.seconds, "threads": torch.get_num_threads(), "peak_memory_mb": _peak_memory()}
        return {"spent": usage}


def _peak_memory() -> float | None:
    """In MB; None on a system that does not tell it (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


@contextmanager
def opened(out: str | Path, start: Mapping[str, Any]) -> Iterator[tuple[Run, Callable[[Mapping[str, Any]], None]]]:
    """The run directory at ``out``, new or resumed, and a function that completes its record.

    Raises RunMismatch, which names the differences, when the directory belongs to another run, and BadInput when it
    holds something else.
    """
    run = Run(Path(out).expanduser())
    resumed = _occupied(run)
    content = dict(start)
    if resumed:
        old = run.record()
        refuse_other({k: old.get(k) for k in IDENTITY}, {k: content[k] for k in IDENTITY}, run.path)
        content["timing"] = {"seconds_before": sum((old.get("timing") or {}).values())}
    content["status"] = "running"
    write_json(run.path / "run.json", content)
    began = time.perf_counter()
    earlier = (content.get("timing") or {}).get("seconds_before", 0.0)

    def finish(more: Mapping[str, Any]) -> None:
        timing = {"seconds": round(time.perf_counter() - began, 3), "seconds_before": round(earlier, 3)}
        write_json(run.path / "run.json", {**content, "timing": timing, **more, "status": "complete"})

    try:
        yield run, finish
    except BaseException as error:
        if isinstance(error, BadInput | BadModel) and not resumed and not _measured(run):
            _clear(run)
        elif run.path.exists():
            content["timing"] = {"seconds_before": round(earlier + time.perf_counter() - began, 3)}
            with suppress(StorageFailed):  # the error that is being raised tells of the full disk
                write_json(run.path / "run.json", content)
        raise


def _occupied(run: Run) -> bool:
    """Whether there is a run to resume. Raises BadInput when the folder holds something else."""
    try:
        names = [name for name in os.listdir(run.path) if not name.startswith(".")]
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        file = next(p for p in (run.path, *run.path.parents) if p.exists() and not p.is_dir())
        raise BadInput(
            f"--out {run.path}: {file} is a file; name a folder to be made, or one of a run to resume."
        ) from None
    except OSError as error:
        raise BadInput(f"--out {run.path} cannot be used: {(error.strerror or str(error)).lower()}.") from error
    if names and "run.json" not in names:
        raise BadInput(f"--out {run.path} holds files that are not a run; give an empty or new folder.")
    return bool(names)


def _measured(run: Run) -> bool:
    shards = [*run.shards("responses"), *run.shards("ineligible")]
    return any(len(pl.read_parquet(shard, columns=["image_id"])) for shard in shards)


def _clear(run: Run) -> None:
    """Remove the files of a run that could not begin, so that the corrected command may use the folder."""
    for kind in ("scores", "responses", "ineligible", "tensors"):
        rmtree(run.path / kind, ignore_errors=True)
    with suppress(OSError):
        (run.path / "run.json").unlink()
        run.path.rmdir()


def refuse_other(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> None:
    """Raise RunMismatch that names the first differences when a run directory belongs to other settings."""
    different = list(_differences(old, new, ""))
    unknown = next((text for text in different if UNKNOWN in text), None)
    if unknown is not None:
        raise RunMismatch(
            f"{path} cannot be resumed, since a model holds what cannot be compared: {unknown}. Give it a version that "
            'changes whenever it does, as in black_box(…, version="1"), or give another --out.'
        )
    if different:
        hashed = any(text.startswith("models.") and ".hash " in text for text in different)
        hint = " (A model that counts or caches while it answers is another one afterwards: make it anew.)"
        raise RunMismatch(
            f"{path} holds another run: {'; '.join(different[:3])}. Give another --out, or remove that folder to start "
            f"again.{hint if hashed else ''}"
        )


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            yield from _differences(*pair, f"{where}[{number}]")
    elif old != new:
        yield f"{where} was {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
