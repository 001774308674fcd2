"""``run.json``: what a run directory belongs to, and how far it has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import cfalign
from cfalign.datasets import ImageSource
from cfalign.errors import BadInput
from cfalign.store import SCHEMA, Run, as_json, fingerprint, refuse_other, write_json
from cfalign.types import Autoencoder, Classifier

IDENTITY = ("schema", "settings", "models", "data")


def record(
    *,
    settings: Mapping[str, Any],
    classifiers: Sequence[tuple[Classifier, str]],
    autoencoder: Autoencoder | None = None,
    source: ImageSource | None = None,
    bank: str | None = None,
) -> dict[str, Any]:
    """The part of ``run.json`` that is known before any work: its identity."""
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
        "cfalign": cfalign.__version__,
        "torch": str(torch.__version__),
        "seed": settings.get("seed"),
        "settings": as_json(settings),
        "models": models,
        "data": data,
    }


@contextmanager
def opened(out: str | Path, start: Mapping[str, Any]) -> Iterator[tuple[Run, Callable[[Mapping[str, Any]], None]]]:
    """The run directory at ``out``, fresh or to be resumed, and what completes its record.

    Raises RunMismatch, naming what differs, when the directory belongs to another run, and BadInput when it holds
    something else.
    """
    run = Run(out)
    try:
        occupied = run.path.exists() and any(not p.name.startswith(".") for p in run.path.iterdir())
    except NotADirectoryError:
        raise BadInput(
            f"--out {run.path} is a file; expected a folder to be made, or one of a run to resume."
        ) from None
    content = dict(start)
    if occupied:
        if not (run.path / "run.json").exists():
            raise BadInput(f"--out {run.path} holds files that are no run; give an empty or new folder.")
        old = run.record()
        refuse_other({k: old.get(k) for k in IDENTITY}, {k: content[k] for k in IDENTITY}, run.path)
        content["timing"] = old.get("timing", {})
    content["status"] = "running"
    write_json(run.path / "run.json", content)
    began = time.perf_counter()

    def finish(more: Mapping[str, Any]) -> None:
        earlier = (content.get("timing") or {}).get("seconds_before", 0.0)
        timing = {"seconds": round(time.perf_counter() - began, 3), "seconds_before": earlier}
        write_json(run.path / "run.json", {**content, "timing": timing, **more, "status": "complete"})

    try:
        yield run, finish
    except BaseException:
        spent = (content.get("timing") or {}).get("seconds_before", 0.0) + time.perf_counter() - began
        content["timing"] = {"seconds_before": round(spent, 3)}
        if run.path.exists():
            write_json(run.path / "run.json", content)
        raise
