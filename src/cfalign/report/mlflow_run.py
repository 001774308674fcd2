"""A finished audit as a run of MLflow (extra ``mlflow``): settings, numbers, files and hashes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import polars as pl

from cfalign._errors import BadInput
from cfalign._models.extras import imported
from cfalign._models.guard import described
from cfalign._runs.run import Run

_LOG = logging.getLogger(__name__)
EXTRA = "mlflow"
FILES = ("report.html", "report.md", "findings.json", "effects.csv", "matrix.csv", "gaps.csv", "run.json")
MOST = 200
"""Effects that become metrics: the strongest; all are in ``effects.csv``."""
_NAME, _VALUE, _BATCH = 200, 500, 90
"""Characters of a name and of a value, and parameters at once, that every store of MLflow takes."""
_UNSAFE = re.compile(r"[^\w\-. /]", re.ASCII)


def log_to_mlflow(run: Run | str | Path, *, run_name: str | None = None) -> str:
    """Log a finished audit to MLflow, and return the id of the run there.

    Into the active run where there is one, else into a new one. Where that is stored, and in which experiment, MLflow
    decides as ever: ``mlflow.set_tracking_uri``, ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``.

    Args:
        run: what ``audit`` returned, or the path of its directory.
        run_name: of a new run; by default the name of the folder.

    Parameters are the settings, by their dotted names. Metrics are the numbers of findings, images and bases, the
    strongest effect, and ``effect/HEAD/ATTRIBUTE`` of the 200 strongest; an undefined one is left out. Signs that
    MLflow does not take become ``_``. Artifacts are the report, where it has been written, and the tables. Tags are
    versions and hashes. Raises BadInput for a run that is no finished audit, without the extra ``mlflow``, and with
    what MLflow says where it refuses.
    """
    run = run if isinstance(run, Run) else Run(run)
    record = run.finished()
    if record["settings"].get("kind") != "audit":
        raise BadInput(f"{run.path} is a bank, which has no findings to log; log an audit of it.")
    params, metrics, tags = params_of(record), metrics_of(run, record), tags_of(record)
    mlflow = imported("mlflow", extra=EXTRA)
    with _told(), _within(mlflow, run_name or run.path.resolve().name) as identity:
        mlflow.set_tags(tags)
        names = list(params)
        for start in range(0, len(names), _BATCH):
            mlflow.log_params({name: params[name] for name in names[start : start + _BATCH]})
        mlflow.log_metrics(metrics)
        for name in FILES:
            if (run.path / name).is_file():
                mlflow.log_artifact(str(run.path / name))
    _LOG.info("The audit in %s is logged to MLflow as run %s.", run.path, identity)
    return identity


@contextmanager
def _within(mlflow: Any, name: str) -> Iterator[str]:
    """The active run, which stays active, or a new one."""
    active = mlflow.active_run()
    if active is not None:
        yield str(active.info.run_id)
        return
    with mlflow.start_run(run_name=name) as begun:
        yield str(begun.info.run_id)


@contextmanager
def _told() -> Iterator[None]:
    """What MLflow raises, as one sentence."""
    try:
        yield
    except Exception as error:  # of its own, of its stores and of the network
        raise BadInput(f"MLflow refused the run: {described(error)}.") from error


def params_of(record: Mapping[str, Any]) -> dict[str, str]:
    """The settings by dotted name, as text."""
    found = {name: str(value)[:_VALUE] for name, value in _flat(record["settings"], "") if value is not None}
    return _with_safe_names(found)


def metrics_of(run: Run, record: Mapping[str, Any]) -> dict[str, float]:
    """Counts, and the strongest effects."""
    known = run.effects().filter(pl.col("effect").is_not_null())
    findings = run.findings()
    numbers: dict[str, float] = {
        "findings": len(findings),
        "images": record["images"],
        "bases": len(record["bases"]),
        "audited_heads": len(record["audited"]),
    }
    sizes = [abs(f["effect"] if f["effect"] is not None else f["change"]) for f in findings]
    numbers |= {"strongest_finding": max(sizes)} if sizes else {}
    rows = known.head(MOST).iter_rows(named=True)
    effects = {f"effect/{row['audited']}/{row['attribute']}": float(row["effect"]) for row in rows}
    return {**numbers, **_with_safe_names(effects)}


def tags_of(record: Mapping[str, Any]) -> dict[str, str]:
    """Versions, and hashes of the models and images."""
    models = record["models"]
    hashes = {f"cfalign.{m['role']}.{m['name']}": m["hash"] for m in models["classifiers"]}
    if "autoencoder" in models:
        hashes["cfalign.autoencoder"] = models["autoencoder"]["hash"]
    given = record["data"]
    data = {f"cfalign.data.{key}": str(given[key]) for key in ("source", "hash", "bank") if key in given}
    found = {"cfalign.version": record["cfalign"], "torch.version": record["torch"], **hashes, **data}
    return _with_safe_names({name: str(value)[:_VALUE] for name, value in found.items()})


def _flat(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _with_safe_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same by names that every store takes; two that would then be one are told apart by a hash."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        safe = _UNSAFE.sub("_", name).replace("//", "/").replace("..", "_").strip("/. ")
        if len(safe) > _NAME or safe in found or not safe:
            safe = f"{safe[:_NAME]}_{sha256(name.encode()).hexdigest()[:8]}"
        found[safe] = value
    return found
