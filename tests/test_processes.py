"""Jobs such as trainings, here and on the workers of Ray: the same files, and a worker that dies loses none."""

from __future__ import annotations

import os
import signal
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import cfalign as cfa
import worlds
from cfalign._rectification.options import RectificationOptions
from cfalign.benchmarks.planted_rectification import planted_rectification
from cfalign.engines import Local, Ray, using
from cfalign.training import ClassifierTraining, train_classifier
from cfalign.training.processes import Workers, in_processes
from cfalign.training.recipes.embedded import labelled, rendered
from cfalign.training.recipes.nulls import NullClassifier, make_all

SMALL = ClassifierTraining(
    size=64, widths=(4, 8), hidden=8, residual=False, dropout=0.0, average=0.95, steps=6, batch=16, device="cpu"
)
NAMES = ("smiling", "young", "wearing_hat")


def trained(name: str, folder: Path) -> None:
    """One small classifier, whose faces and batches follow from its name."""
    seed = zlib.crc32(name.encode()) % 10_000
    faces = cfa.synthetic.sample(80, seed=seed)
    images = rendered(faces)
    labels = labelled(images, (name,), faces.labels()[:, [cfa.synthetic.ATTRIBUTES.index(name)]])
    train_classifier(images, labels, out=folder / name, options=replace(SMALL, seed=seed))


def written(name: str, folder: Path) -> None:
    (folder / name).write_text(f"{name}, {torch.get_num_threads()} thread")


def written_by_the_second_worker(name: str, folder: Path) -> None:
    tried = folder / f"{name}.tried"
    if not tried.exists():
        tried.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    written(name, folder)


def refused(name: str, folder: Path) -> None:
    raise cfa.BadInput(f"{name} cannot be trained.")


def weights(folder: Path) -> dict[str, bytes]:
    return {file.parent.name: file.read_bytes() for file in sorted(folder.rglob("*.safetensors"))}


def jobs(folder: Path) -> list[tuple[str, Path]]:
    folder.mkdir(parents=True, exist_ok=True)
    return [(name, folder) for name in NAMES]


@pytest.fixture(scope="module")
def cluster() -> Any:
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def test_without_ray_its_workers_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(cfa.BadInput, match=r"cfalign\[ray\]"):
        in_processes(written, jobs(tmp_path), workers=Ray(), stage="some")


@pytest.mark.parametrize("workers", [1, 2, Ray()])
def test_without_jobs_nobody_is_hired(workers: Workers) -> None:
    told: list[tuple[str, int, int]] = []
    in_processes(written, [], workers=workers, stage="some", done=3, progress=lambda *one: told.append(one))
    assert told == [("some", 3, 3)]


@pytest.mark.filterwarnings("ignore")
def test_trainings_have_the_same_bytes_wherever_they_run(tmp_path: Path, cluster: Any) -> None:
    told: list[int] = []
    hands: dict[str, Workers] = {"here": 1, "ray": Ray(workers=2)}
    for name, workers in hands.items():
        given = jobs(tmp_path / name)
        in_processes(trained, given, workers=workers, stage="some", folder=tmp_path / name)
    assert len(weights(tmp_path / "here")) == len(NAMES)
    assert weights(tmp_path / "ray") == weights(tmp_path / "here")
    again = jobs(tmp_path / "ray")
    in_processes(
        written,
        [(f"{name}.txt", folder) for name, folder in again],
        workers=Ray(),
        stage="some",
        folder=tmp_path / "ray",
        progress=lambda _, done, total: told.append(done),
    )
    assert told == [0, 1, 2, 3]
    assert (tmp_path / "ray" / "young.txt").read_text() == "young.txt, 1 thread"
    assert not list((tmp_path / "ray").glob(".seen*"))


@pytest.mark.filterwarnings("ignore")
def test_recipes_take_the_workers_of_ray(tmp_path: Path, cluster: Any) -> None:
    untrained = [NullClassifier("untrained", number) for number in range(3)]
    make_all(untrained, tmp_path / "here", workers=1)
    make_all(untrained[:1], tmp_path / "ray", workers=1)
    made = (tmp_path / "ray" / untrained[0].name / "classifier.safetensors").stat().st_mtime_ns
    make_all(untrained, tmp_path / "ray", workers=Ray(workers=2))
    assert weights(tmp_path / "ray") == weights(tmp_path / "here")
    assert (tmp_path / "ray" / untrained[0].name / "classifier.safetensors").stat().st_mtime_ns == made


@pytest.mark.filterwarnings("ignore")
def test_a_job_whose_worker_dies_is_done_again(tmp_path: Path, cluster: Any) -> None:
    given = jobs(tmp_path)
    in_processes(written_by_the_second_worker, given, workers=Ray(workers=2), stage="some", folder=tmp_path)
    assert [(tmp_path / name).exists() for name in NAMES] == [True] * 3
    assert [(tmp_path / f"{name}.tried").exists() for name in NAMES] == [True] * 3


@pytest.mark.filterwarnings("ignore")
def test_a_folder_is_named_from_where_the_command_runs(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    in_processes(written, jobs(Path("out")), workers=Ray(workers=1), stage="some", folder=Path("out"))
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(NAMES)


@pytest.mark.filterwarnings("ignore")
def test_ctrl_c_leaves_what_is_finished(tmp_path: Path, cluster: Any) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_processes(written, jobs(tmp_path), workers=Ray(workers=1), stage="some", folder=tmp_path, progress=stop)
    assert any((tmp_path / name).exists() for name in NAMES)
    with pytest.raises(cfa.BadInput, match="cannot be trained"):
        in_processes(refused, jobs(tmp_path), workers=Ray(workers=1), stage="some", folder=tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_planted_classifiers_are_rectified_with_the_same_numbers(cluster: Any) -> None:
    given: dict[str, Any] = {
        "names": ["big_lips_from_eyeglasses", "oval_face_from_mustache"],
        "faces": 400,
        "independent": 60,
        "interventions": 5,
        "options": RectificationOptions(limit=100, min_images=5, resamples=100),
    }
    found = []
    for engine in (Local(), Ray(workers=2)):
        told: list[tuple[str, int, int]] = []
        with using(engine):
            result = planted_rectification(**given, progress=lambda *one: told.append(one))  # noqa: B023
        found.append(result.as_dict())
        assert [one[1] for one in told if one[0] == "classifiers"] == [0, 1, 2]
    assert len(found[0]["pairs"]) == 2
    assert found[0] == found[1]


def test_flags_of_an_engine_without_effect_are_refused(tmp_path: Path) -> None:
    for command in ("train planted --doses 0 --seeds 0", "benchmark nulls --quick", "rectify --planted"):
        ended = worlds.cfalign(*command.split(), "--address", "localhost:1", "--out", "out", folder=tmp_path)
        assert (ended.code, "needs --engine" in ended.err) == (2, True), ended.err
    ended = worlds.cfalign("rectify", "--faces", "20", "--engine", "ray", folder=tmp_path)
    assert (ended.code, "--engine needs --planted" in ended.err) == (2, True), ended.err
