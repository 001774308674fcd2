"""Finished audits of two releases of one classifier, for tests of what is compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import cfalign as cfa
import worlds
from cfalign._runs.run import Run

OPTIONS = cfa.AuditOptions(
    limit=15,
    shown=0,
    effects=cfa.EffectOptions(samples=400, draws=500),
    alignment=cfa.AlignmentOptions(resamples=100, draws=500),
)


def using_hat(weight: float, *, name: str = "audited", target: str = "friendly") -> Any:
    """A classifier that uses the hat this much beside what it is meant to see."""
    from cfalign.classifiers import wrap

    mixing = torch.tensor([[0.2], [0.0], [0.0], [weight], [0.0], [0.3]])
    return wrap(worlds.LinearHeads(mixing), [target], name=name)


def audited(out: Path, weight: float, *, seed: int = 0, options: cfa.AuditOptions = OPTIONS, **more: Any) -> Run:
    """An audit on images drawn anew by the seed."""
    return cfa.audit(
        worlds.images(60, seed=100 + seed),
        using_hat(weight, **{key: more.pop(key) for key in ("name", "target") if key in more}),
        **{"autoencoder": worlds.autoencoder(), "reference": worlds.heads(), **more},
        options=replace(options, seed=seed),
        out=out,
    )


def changed(run: Run, to: Path, change: Callable[[dict[str, Any]], object]) -> Run:
    """A copy of a run whose record is changed."""
    shutil.copytree(run.path, to)
    record = json.loads((to / "run.json").read_text())
    change(record)
    (to / "run.json").write_text(json.dumps(record))
    return Run(to)


def with_line(run: Run, to: Path, file: str, line: str) -> Run:
    """A copy of a run with another line at the end of one of its tables."""
    copy = changed(run, to, lambda record: None)
    (to / file).write_text((to / file).read_text() + line + "\n")
    return copy
