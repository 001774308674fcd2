"""``run.json``: the settings, models and data of a run, and whether it is complete."""

from __future__ import annotations

import json
import logging
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
from torch import Tensor

from cfalign import __version__
from cfalign._errors import BadInput, BadModel, ModelWarning, RunMismatch, StorageFailed, warn
from cfalign._models.fingerprint import UNKNOWN, fingerprint
from cfalign._runs.codec import as_json, damaged, read_json, write_json
from cfalign._runs.marks import MARKS
from cfalign._runs.probes import changed_answers, probe
from cfalign._runs.progress import Progress
from cfalign._runs.run import SCHEMA, Run
from cfalign._runs.unnamed import NAMED
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import ImageSource
from cfalign.datasets.grouped_images import group_record
from cfalign.datasets.inventory import inventory_record
from cfalign.datasets.label_reading import remembered

_LOG = logging.getLogger(__name__)
IDENTITY = ("schema", "settings", "models", "data")
KINDS = ("scores", "responses", "ineligible", "tensors", "curves", "images", "unnamed", "regions", "thumbnails")
_TABLES = ("matrix.csv", "effects.csv", "joint.csv", "gaps.csv")
WRITTEN = (
    *_TABLES,
    "components.safetensors",
    "methods.json",
    "findings.json",
    "unnamed.json",
    "regions.csv",
    "sorted_images.json",
    "label_correlations.csv",
    "report.html",
    "report.json",
    "report.md",
    "model_card.md",
)
"""The folders and files of a run, but for ``run.json``."""
STAYS = (NAMED, MARKS)
"""What people made of a run, which outlives it: heads of unnamed features, and marks."""
AGAIN = "Give another --out, or remove that folder to start again (--fresh does so where a command has it)."


def record(
    *,
    settings: Mapping[str, Any],
    classifiers: Sequence[tuple[Classifier, str]],
    autoencoder: Autoencoder | None = None,
    source: ImageSource | None = None,
    bank: str | None = None,
    images: Tensor,
    batch: int,
) -> dict[str, Any]:
    """The part of ``run.json`` that is known before any work: the identity of the run.

    ``images``: some that are audited, [n, c, h, w], for the models to answer ``batch`` at a time, see ``probes``.
    """
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
    reading = remembered(source)
    labels = {} if reading is None else {"labels": reading.as_dict()}
    if source is not None:
        data["images"] = len(source.ids)
        data |= group_record(source)
    return {
        "schema": SCHEMA,
        "cfalign": __version__,
        "torch": str(torch.__version__),
        "seed": settings.get("seed"),
        "settings": as_json(settings),
        "models": models,
        "data": data,
        "probes": probe(classifiers, autoencoder, images, batch=batch),
        **inventory_record(source),
        **labels,
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
        content["probes"] = _same_answers(old, content, run.path)
        content["timing"] = {"seconds_before": sum((old.get("timing") or {}).values())}
    content["status"] = "running"
    kind = content["settings"]["kind"]
    _LOG.info("The %s is %s in %s.", kind, "resumed" if resumed else "written", run.path)
    write_json(run.path / "run.json", content)
    began = time.perf_counter()
    earlier = (content.get("timing") or {}).get("seconds_before", 0.0)

    def finish(more: Mapping[str, Any]) -> None:
        timing = {"seconds": round(time.perf_counter() - began, 3), "seconds_before": round(earlier, 3)}
        write_json(run.path / "run.json", {**content, "timing": timing, **more, "status": "complete"})
        _LOG.info("The %s in %s is complete, after %.1f s.", kind, run.path, timing["seconds"])

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


def remember(run: Run, given: Mapping[str, Any]) -> None:
    """Add to ``run.json``, as ``given``, by which names a command was given its images and models."""
    write_json(run.path / "run.json", {**run.record(), "given": as_json(given)})


def _occupied(run: Run) -> bool:
    """Whether there is a run to resume. Raises BadInput when the folder holds something else."""
    try:
        names = [name for name in os.listdir(run.path) if not name.startswith(".") and name not in STAYS]
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


def discard(out: str | Path) -> None:
    """Remove the run in the folder ``out``, but for what people made of it (``STAYS``).

    Raises BadInput when it holds no run, or something else beside it.
    """
    run = Run(Path(out).expanduser())
    if not _occupied(run):
        return
    if "schema" not in read_json(run.path / "run.json"):
        raise BadInput(f"--fresh: the run.json in {run.path} is not one of cfalign; remove the folder yourself.")
    others = (p.name for p in sorted(run.path.iterdir()) if p.name not in (*KINDS, *WRITTEN, *STAYS, "run.json"))
    if other := next((name for name in others if not name.startswith(".")), None):
        raise BadInput(f"--fresh: {run.path} holds {other!r}, which is no part of a run; move it away.")
    _clear(run)


def _measured(run: Run) -> bool:
    shards = [*run.shards("responses"), *run.shards("ineligible")]
    return any(len(pl.read_parquet(shard, columns=["image_id"])) for shard in shards)


def _clear(run: Run) -> None:
    """Remove the files of a run, so that another may use the folder."""
    for kind in KINDS:
        rmtree(run.path / kind, ignore_errors=True)
    for name in (*WRITTEN, "run.json"):
        (run.path / name).unlink(missing_ok=True)
    with suppress(OSError):  # somebody has put other files there
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
        raise RunMismatch(f"{path} holds another run: {'; '.join(different[:3])}. {AGAIN}{hint if hashed else ''}")


def _same_answers(old: Mapping[str, Any], new: Mapping[str, Any], path: Path) -> Any:
    """The probes of a run that is resumed: those that it was begun with, None where it has none.

    Raises RunMismatch where a model answers them otherwise now.
    """
    begun = old.get("probes")
    if begun is None:
        warn(
            f"{path} was begun by a cfalign that kept no answers of its models, so that they are the same is told by "
            "their code and weights alone.",
            ModelWarning,
            stacklevel=2,
        )
        return None
    try:
        changed = list(changed_answers(begun, new["probes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path / "run.json", error) from error
    if changed:
        raise RunMismatch(
            f"{path} cannot be resumed: {'; '.join(changed)}, though its code and weights are as they were, so "
            f"something else that it reads has changed (a file, the environment, a library). {AGAIN}"
        )
    return begun


def _differences(old: Any, new: Any, where: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else str(key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            names = [part.get("name") for part in pair if isinstance(part, Mapping)]
            same = len(names) == 2 and names[0] == names[1] is not None
            yield from _differences(*pair, f"{where}[{names[0] if same else number!r}]")
    elif old != new:
        yield f"{where} was {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
