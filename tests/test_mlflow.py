"""A finished audit in MLflow: a real store on disk, read back by MLflow's own client."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cfalign as cfa
import worlds
from cfalign import BadInput
from cfalign.report import log_to_mlflow
from cfalign.report.mlflow_run import metrics_of, params_of, tags_of


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow over a folder of its own."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    yield mlflow
    mlflow.set_tracking_uri(None)


def named_hat(name: str, tiny_run: cfa.Run, folder: Path) -> cfa.Run:
    """A copy of the run whose hat has another name."""
    shutil.copytree(tiny_run.path, folder)
    for file in ("findings.json", "matrix.csv", "effects.csv", "run.json"):
        text = (folder / file).read_text(encoding="utf-8")
        (folder / file).write_text(text.replace("wearing_hat", name), encoding="utf-8")
    return cfa.Run(folder)


@pytest.mark.filterwarnings("ignore")  # of MLflow itself
def test_an_audit_is_a_run_of_mlflow(store: Any, tiny_run: cfa.Run, tmp_path: Path) -> None:
    run = named_hat("wearing_hat", tiny_run, tmp_path / "audit")
    cfa.report.write(run)
    identity = log_to_mlflow(run)
    client = store.MlflowClient()
    found = client.get_run(identity)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "audit"
    assert found.data.params["limit"] == "15"
    assert found.data.params["search.drop"] == "0.6"
    assert found.data.metrics["findings"] == len(run.findings())
    assert found.data.metrics["images"] == 60
    effect = run.effects().filter(attribute="wearing_hat")["effect"][0]
    assert found.data.metrics["effect/friendly/wearing_hat"] == pytest.approx(effect)
    assert found.data.metrics["strongest_finding"] == pytest.approx(max(abs(f["effect"]) for f in run.findings()))
    assert found.data.tags["cfalign.version"] == cfa.__version__
    assert found.data.tags["cfalign.audited.audited"] == run.record()["models"]["classifiers"][0]["hash"]
    names = {item.path for item in client.list_artifacts(identity)}
    assert {"report.html", "findings.json", "effects.csv", "matrix.csv", "run.json"} <= names


@pytest.mark.filterwarnings("ignore")
def test_the_active_run_is_taken_and_stays_active(store: Any, tiny_run: cfa.Run) -> None:
    with store.start_run() as mine:
        store.log_metric("loss", 0.5)
        assert log_to_mlflow(tiny_run.path) == mine.info.run_id
        assert store.active_run().info.run_id == mine.info.run_id
    data = store.MlflowClient().get_run(mine.info.run_id).data
    assert data.metrics["loss"] == 0.5
    assert "findings" in data.metrics


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["<b>hat\u00e9</b>:😀", "a" * 300, "../../etc", "hat & scarf; 100 %"])
def test_any_name_of_a_head_becomes_one_that_mlflow_takes(
    store: Any, name: str, tiny_run: cfa.Run, tmp_path: Path
) -> None:
    run = named_hat(name, tiny_run, tmp_path / "audit")
    data = store.MlflowClient().get_run(log_to_mlflow(run)).data
    assert sum(key.startswith("effect/") for key in data.metrics) == len(run.effects().drop_nulls("effect"))


@pytest.mark.filterwarnings("ignore")
def test_what_mlflow_refuses_is_one_sentence(store: Any, tiny_run: cfa.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    store.set_tracking_uri("warp://nowhere")
    with pytest.raises(BadInput, match=r"^MLflow refused the run: [^\n]+$"):
        log_to_mlflow(tiny_run)


@pytest.mark.filterwarnings("ignore")
def test_the_command_logs_too(store: Any, tiny_run: cfa.Run, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    ended = worlds.cfalign("report", "run", "--mlflow", folder=tmp_path)
    assert ended.code == 0
    identity = ended.out.rpartition("mlflow: run ")[2].strip()
    assert store.MlflowClient().get_run(identity).info.run_name == "run"


def test_only_a_finished_audit_is_logged(tiny_run: cfa.Run, tmp_path: Path) -> None:
    shutil.copytree(tiny_run.path, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"status": "running"}))
    with pytest.raises(BadInput, match="is not finished"):
        log_to_mlflow(tmp_path / "run")
    settings = record["settings"] | {"kind": "bank"}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"settings": settings}))
    with pytest.raises(BadInput, match="is a bank, which has no findings to log"):
        log_to_mlflow(tmp_path / "run")


def test_names_that_become_one_are_told_apart_and_long_ones_are_cut(tiny_run: cfa.Run) -> None:
    record = tiny_run.record()
    record["settings"] = {"a+b": 1, "a*b": 2, "x" * 300: "y" * 900, "none": None, "deep": {"er": [1, 2]}}
    params = params_of(record)
    assert params["a_b"] == "1"
    assert [value for name, value in params.items() if name.startswith("a_b_")] == ["2"]
    assert params["deep.er"] == "[1, 2]"
    assert "none" not in params
    assert max(map(len, params)) <= 250
    assert max(map(len, params.values())) == 500
    assert all(value == value for value in metrics_of(tiny_run, tiny_run.record()).values())
    assert tags_of(tiny_run.record())["cfalign.data.hash"] == tiny_run.record()["data"]["hash"]
