"""A run directory into ``ReportData``; whatever does not fit is one clear sentence."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cfalign._analysis.relations import Kind, Relation
from cfalign._errors import BadInput, RunMismatch
from cfalign._results import Cell, Effect, Finding, GroupGap, Sample
from cfalign._runs.run import SCHEMA
from cfalign.report import pictures, tables
from cfalign.report.data import Followed, Model, Pixels, ReportData, Skipped

_MATRIX = (
    "base",
    "downstream",
    "psi",
    "ratio_of_means",
    "median",
    "psi_logit",
    "ci_low",
    "ci_high",
    "n",
    "excluded",
    "p",
    "q",
)
_EFFECTS = ("audited", "attribute", "effect", "ci_low", "ci_high", "incoming", "outgoing", "n", "q")
_GAPS = (
    "audited",
    "attribute",
    "gap",
    "ci_low",
    "ci_high",
    "direct",
    "indirect",
    "observed",
    "n_with",
    "n_without",
    "through",
)
_WHOLE = ("n", "excluded", "n_with", "n_without")
_FILES = ("original", "reconstruction", "counterfactual")


def load(run_dir: Path) -> ReportData:
    """Read the run directory.

    Raises:
        RunMismatch: it was written with another schema version.
        BadInput: it is not a run directory, the run is not complete, or a file in it is missing or damaged.
    """
    run_dir = Path(run_dir)
    run = _run(run_dir)
    try:
        return _build(run_dir, run)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        what = f"key {error}" if isinstance(error, KeyError) else str(error)
        raise BadInput(
            f"{run_dir / 'run.json'} lacks something that schema {SCHEMA} promises, or has it in another form "
            f"({what}): it was changed or damaged; run the audit again."
        ) from error


def _run(run_dir: Path) -> dict[str, Any]:
    if not run_dir.is_dir():
        raise BadInput(
            f"No run directory at {run_dir}: expected a folder that an audit wrote (its --out); check the path."
        )
    path = run_dir / "run.json"
    if not path.is_file():
        raise BadInput(
            f"{run_dir} is not a run directory: it holds no run.json; give the folder that was the audit's --out."
        )
    run = _json(path)
    schema = run.get("schema")
    if schema != SCHEMA:
        raise RunMismatch(
            f"{run_dir} was written with schema version {schema}, this cfalign reads version {SCHEMA}: "
            "use the cfalign that wrote it, or run the audit again into another folder."
        )
    if run.get("status") != "complete":
        raise BadInput(
            f"The run in {run_dir} is not complete (its status is {run.get('status')!r}): start the same audit again "
            f"with --out {run_dir}, it resumes, and report on it then."
        )
    return run


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as JSON ({error}): it is damaged; run the audit again.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds no JSON object at its top: it is damaged; run the audit again.")
    return content


def _build(run_dir: Path, run: Mapping[str, Any]) -> ReportData:
    findings = _findings(run_dir)
    responses = tables.shards(run_dir / "responses")
    heads = tuple(map(str, run["heads"]))
    drift = {str(k): _float(v) for k, v in run.get("drift", {}).items()}
    pairs = {(s.image_id, s.base) for f in findings for s in f.samples}
    return ReportData(
        run_dir=run_dir,
        versions={"cfalign": str(run["cfalign"]), "torch": str(run["torch"])},
        seed=run.get("seed"),
        settings=run.get("settings", {}),
        models=_models(run["models"]),
        source=_source(run["data"]),
        images=int(run["images"]),
        images_hash=str(run["data"].get("hash", "")),
        skipped=tuple(Skipped(str(s["image_id"]), str(s["reason"])) for s in run.get("skipped", ())),
        heads=heads,
        bases=tuple(map(str, run["bases"])),
        audited=tuple(map(str, run["audited"])),
        attributes=tuple(map(str, run["attributes"])),
        outcomes=_counts(run.get("outcomes", {})),
        exclusions=_counts(run.get("exclusions", {})),
        cost={str(k): _float(v) for k, v in run.get("cost", {}).items()},
        timing={str(k): _float(v) for k, v in _seconds(run).items()},
        cells=tuple(_cell(row) for row in _rows(run_dir / "matrix.csv", _MATRIX)),
        effects=tuple(_effect(row) for row in _rows(run_dir / "effects.csv", _EFFECTS)),
        findings=findings,
        gaps=tuple(_gap(row) for row in _rows(run_dir / "gaps.csv", _GAPS)),
        relations=_relations(run_dir),
        followed=_followed(run["controls"]),
        controls=tables.controls(responses, heads=heads, drift=drift),
        walks=tables.walks(tables.shards(run_dir / "curves"), responses, pairs=pairs),
        pictures=_pictures(run_dir, findings),
    )


def _models(models: Mapping[str, Any]) -> tuple[Model, ...]:
    """The autoencoder first; an audit of a bank has none."""
    autoencoder = [{**m, "role": "autoencoder", "targets": ()} for m in (models.get("autoencoder"),) if m]
    return tuple(
        Model(str(m["name"]), str(m["role"]), tuple(map(str, m["targets"])), str(m.get("hash", "")))
        for m in (*autoencoder, *models["classifiers"])
    )


def _seconds(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """By stage where the run says, with what interrupted sessions before it took."""
    timing = run.get("timing", {})
    stages = (run.get("spent") or {}).get("stages")
    before = {"seconds_before": timing["seconds_before"]} if timing.get("seconds_before") else {}
    return {**stages, **before} if stages else timing


def _source(data: Mapping[str, Any]) -> str:
    return str(data["source"]) if "source" in data else f"bank {data['bank']}"


def _counts(table: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    return {str(base): {str(k): int(n) for k, n in row.items()} for base, row in table.items()}


def _float(value: object) -> float:
    """A number that may be absent: None and an empty field are NaN."""
    return math.nan if value is None or value == "" else float(str(value))


def _rows(path: Path, header: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            found = tuple(reader.fieldnames or ())
            rows = list(reader)
    except FileNotFoundError as error:
        raise BadInput(f"The run lacks {path}: it is not complete; start the same audit again, it resumes.") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read ({error}): it is damaged; run the audit again.") from error
    if found != tuple(header):
        raise BadInput(
            f"{path} has the header {','.join(found)!r} where {','.join(header)!r} was expected: run the audit again."
        )
    for number, row in enumerate(rows, start=2):
        _check_row(path, number, row, header)
    return rows


def _check_row(path: Path, number: int, row: Mapping[str, Any], header: Sequence[str]) -> None:
    """Everything but the first two columns, and what a gap comes through, is a number or empty."""
    for column in (name for name in header[2:] if name != "through"):
        try:
            value = _float(row[column])
            if column in _WHOLE:
                int(value)
        except (ValueError, OverflowError) as error:
            raise BadInput(
                f"{path} line {number} has {row[column]!r} in column {column!r} where a number was expected: it was "
                "changed or damaged; run the audit again."
            ) from error


def _cell(row: Mapping[str, str]) -> Cell:
    values = {k: _float(row[k]) for k in _MATRIX[2:] if k not in ("n", "excluded")}
    return Cell(
        base=row["base"],
        downstream=row["downstream"],
        n=int(float(row["n"])),
        excluded=int(float(row["excluded"])),
        **values,
    )


def _effect(row: Mapping[str, str]) -> Effect:
    values = {k: _float(row[k]) for k in _EFFECTS[2:] if k != "n"}
    return Effect(audited=row["audited"], attribute=row["attribute"], n=int(float(row["n"])), **values)


def _gap(row: Mapping[str, str]) -> GroupGap:
    values = {k: _float(row[k]) for k in _GAPS[2:8]}
    here, there = (int(float(row[k])) for k in ("n_with", "n_without"))
    return GroupGap(row["audited"], row["attribute"], n_with=here, n_without=there, through=row["through"], **values)


def _findings(run_dir: Path) -> tuple[Finding, ...]:
    path = run_dir / "findings.json"
    if not path.is_file():
        raise BadInput(f"The run lacks {path}: it is not complete; start the same audit again, it resumes.")
    try:
        findings = [_finding(f) for f in _json(path)["findings"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{path} lacks {error} or has it in another form: it was changed or damaged; run the audit again."
        ) from error
    return tuple(sorted(findings, key=lambda f: f.rank))


def _relations(run_dir: Path) -> tuple[Relation, ...]:
    path = run_dir / "findings.json"
    try:
        return tuple(_relation(raw) for raw in _json(path)["relations"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{path} lacks {error} or has it in another form: it was changed or damaged; run the audit again."
        ) from error


def _relation(raw: Mapping[str, Any]) -> Relation:
    names = ("correlation", "effect", "ci_low", "ci_high", "q", "outgoing", "returning")
    return Relation(
        kind=Kind(raw["kind"]), audited=str(raw["audited"]), attribute=str(raw["attribute"]),
        images=int(raw["images"]), **{k: _float(raw[k]) for k in names},
    )  # fmt: skip


def _followed(controls: Mapping[str, Mapping[str, Any]]) -> tuple[Followed, ...]:
    rows = [
        Followed(str(a), _float(c["judge_share"]), _float(c["ci_low"]), _float(c["ci_high"]), int(c["n"]))
        for a, c in controls.items()
    ]
    return tuple(sorted(rows, key=lambda f: (not math.isfinite(f.share), f.share)))


def _finding(raw: Mapping[str, Any]) -> Finding:
    numbers = {k: _float(raw[k]) for k in ("effect", "ci_low", "ci_high", "q", "incoming", "null", "outgoing")}
    return Finding(
        rank=int(raw["rank"]),
        audited=str(raw["audited"]),
        attribute=str(raw["attribute"]),
        n=int(raw["n"]),
        samples=tuple(_sample(s) for s in raw["samples"]),
        **numbers,
    )


def _sample(raw: Mapping[str, Any]) -> Sample:
    scores = ("psi", "base_before", "base_after", "downstream_before", "downstream_after")
    return Sample(
        image_id=str(raw["image_id"]),
        base=str(raw["base"]),
        downstream=str(raw["downstream"]),
        files={str(k): str(v) for k, v in (raw.get("files") or {}).items()},
        **{k: _float(raw[k]) for k in scores},
    )


def _pictures(run_dir: Path, findings: Sequence[Finding]) -> dict[str, Pixels]:
    """Only files inside the run directory: a path in findings.json cannot pull anything else into a page that is
    passed on.
    """
    root = run_dir.resolve()
    found: dict[str, Pixels] = {}
    for sample in (s for f in findings for s in f.samples):
        for name in (sample.files.get(kind) for kind in _FILES):
            if name is None or name in found or not (root / name).resolve().is_relative_to(root):
                continue
            pixels = pictures.read(root / name)
            if pixels is not None:
                found[name] = pixels
    return found
