"""Where work runs changes no byte: parts on several machines, workers that die, a run that changes its engine."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import cfalign as cfa
import worlds
from cfalign._runs.run import Run
from cfalign.engines import Engine, Local, Part, Ray, using

WORLDS = Path(worlds.__file__)
OPTIONS = cfa.AuditOptions(limit=20, chunk=8)
TABLES = ("matrix.csv", "effects.csv", "gaps.csv", "findings.json")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worlds.write_images(tmp_path_factory.mktemp("images"), 120)


def audited(images: Path, out: Path, engine: Engine | None = None, **more: Any) -> Run:
    with using(engine or Local()):
        return cfa.audit(
            images,
            worlds.audited(),
            reference=worlds.bent_heads(),
            autoencoder=worlds.slow_autoencoder(),
            **{"options": OPTIONS, **more},
            out=out,
        )


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audited(images, tmp_path_factory.mktemp("whole") / "run").path


def assert_same(run: Path, whole: Path) -> None:
    for kind in ("scores", "ineligible", "responses", "curves"):
        names = [[shard.name for shard in Run(path).shards(kind)] for path in (run, whole)]
        assert names[0] == names[1], kind
        for name in names[0]:
            assert (run / kind / name).read_bytes() == (whole / kind / name).read_bytes(), f"{kind}/{name}"
    for name in TABLES:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_run_looks_at_no_more_images_than_it_needs(whole: Path) -> None:
    scores, responses = (Run(whole).shards(kind) for kind in ("scores", "responses"))
    assert [s.name for s in scores] == [r.name for r in responses]
    assert len(scores) < 120 / OPTIONS.chunk


def test_parts_in_one_folder_make_the_same_run(images: Path, whole: Path, tmp_path: Path) -> None:
    for number in (2, 0, 1):
        run = audited(images, tmp_path / "run", Local(part=Part(number, 3)))
        assert run.record()["status"] == "running"
    assert len(run.shards("responses")) == len(Run(whole).shards("responses"))
    assert_same(audited(images, tmp_path / "run").path, whole)


def test_parts_in_folders_of_their_own_are_merged(images: Path, whole: Path, tmp_path: Path) -> None:
    parts = [audited(images, tmp_path / f"{i}", Local(part=Part(i, 3))).path for i in range(3)]
    walked = [len(Run(part).shards("responses")) for part in parts]
    assert sum(walked) == len(Run(whole).shards("responses"))
    assert max(walked) - min(walked) <= 1
    merged = cfa.merge(parts, out=tmp_path / "merged")
    assert merged.record()["status"] == "running"
    looked = []
    run = audited(images, merged.path, progress=lambda stage, done, total: looked.append(stage))
    assert_same(run.path, whole)
    with pytest.raises(cfa.BadInput, match="finished run"):
        cfa.merge([run.path], out=tmp_path / "again")


def test_a_part_that_is_missing_is_made_at_the_end(images: Path, whole: Path, tmp_path: Path) -> None:
    part = audited(images, tmp_path / "part", Local(part=Part(1, 3))).path
    assert_same(audited(images, cfa.merge([part], out=tmp_path / "run").path).path, whole)


def test_parts_of_two_runs_are_not_merged(images: Path, tmp_path: Path) -> None:
    one = audited(images, tmp_path / "one", Local(part=Part(0, 2))).path
    options = cfa.AuditOptions(limit=19, chunk=8)
    other = audited(images, tmp_path / "other", Local(part=Part(1, 2)), options=options).path
    with pytest.raises(cfa.RunMismatch, match="limit"):
        cfa.merge([one, other], out=tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_a_bank_and_its_audit_in_parts(images: Path, tmp_path: Path) -> None:
    def made(name: str, engine: Local | None = None) -> cfa.Bank:
        with using(engine or Local()):
            return cfa.bank(
                images,
                worlds.bent_heads(),
                autoencoder=worlds.slow_autoencoder(),
                options=OPTIONS,
                out=tmp_path / name,
            )

    plain = made("plain")
    for number in range(2):
        made("parts", Local(part=Part(number, 2)))
    parts = made("parts")
    for kind in ("tensors", "responses", "scores"):
        for ours, theirs in zip(parts.run.shards(kind), plain.run.shards(kind), strict=True):
            assert ours.read_bytes() == theirs.read_bytes()
    runs = [cfa.audit(plain, worlds.torch_box(), out=tmp_path / "run")]
    for number in range(2):
        with using(Local(part=Part(number, 2))):
            cfa.audit(plain, worlds.torch_box(), out=tmp_path / "again")
    runs.append(cfa.audit(plain, worlds.torch_box(), out=tmp_path / "again"))
    assert (runs[0].path / "effects.csv").read_bytes() == (runs[1].path / "effects.csv").read_bytes()


def test_shards_on_the_command_line(images: Path, tmp_path: Path) -> None:
    given = worlds.options(
        images=images,
        classifier=f"{WORLDS}:audited",
        reference=f"{WORLDS}:bent_heads",
        autoencoder=f"{WORLDS}:slow_autoencoder",
        limit="20",
        set="chunk=8",
    )
    for number in range(2):
        out = tmp_path / f"part{number}"
        ended = worlds.cfalign("audit", *given, "--out", out, "--shard", f"{number}/2", folder=tmp_path)
        assert ended.code == 0, ended.err
        assert "without --shard" in ended.out
    run = tmp_path / "run"
    parts = [tmp_path / f"part{number}" for number in range(2)]
    ended = worlds.cfalign("merge", *parts, "--out", run, folder=tmp_path)
    assert ended.code == 0, ended.err
    ended = worlds.cfalign("audit", *given, "--out", run, folder=tmp_path)
    assert ended.code == 0, ended.err
    whole = tmp_path / "whole"
    assert worlds.cfalign("audit", *given, "--out", whole, folder=tmp_path).code == 0
    assert_same(run, whole)


@pytest.mark.parametrize("text", ["3/3", "a/b", "1", "-1/2", "0/0"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(cfa.BadInput, match="0"):
        Part.read(text)


def test_without_ray_its_engine_names_the_extra(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(cfa.BadInput, match=r"cfalign\[ray\]"):
        audited(images, tmp_path / "run", Ray())


@pytest.fixture(scope="module")
def cluster() -> Any:
    ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_two_workers_make_the_same_bytes(images: Path, whole: Path, tmp_path: Path, cluster: Any) -> None:
    assert_same(audited(images, tmp_path / "run", Ray(workers=2)).path, whole)


@pytest.mark.filterwarnings("ignore")
def test_a_worker_that_is_killed_is_replaced(images: Path, whole: Path, tmp_path: Path, cluster: Any) -> None:
    killed = []

    def kill() -> None:
        psutil = pytest.importorskip("psutil")
        while not killed:
            names = {p.pid: " ".join(p.cmdline()) for p in psutil.process_iter() if p.status() != "zombie"}
            hired = [pid for pid, name in names.items() if "ray::_Worker" in name]
            if hired and (tmp_path / "run" / "responses").exists():
                os.kill(hired[0], signal.SIGKILL)
                killed.append(hired[0])
            time.sleep(0.05)

    thread = Thread(target=kill, daemon=True)
    thread.start()
    run = audited(images, tmp_path / "run", Ray(workers=2))
    assert killed
    assert_same(run.path, whole)


@pytest.mark.filterwarnings("ignore")
def test_a_run_changes_its_engine_midway(images: Path, whole: Path, tmp_path: Path, cluster: Any) -> None:
    class Stopped(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "counterfactuals" and done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        audited(images, tmp_path / "run", Ray(workers=2), progress=stop)
    assert Run(tmp_path / "run").record()["status"] == "running"
    assert_same(audited(images, tmp_path / "run").path, whole)


@pytest.mark.filterwarnings("ignore")
def test_an_error_of_a_worker_is_told_as_here(images: Path, tmp_path: Path, cluster: Any) -> None:
    class Broken(worlds.LinearAutoencoder):
        def encode(self, images: Any) -> Any:
            return super().encode(images) * float("nan")

    with pytest.raises(cfa.BadModel, match="NaN"), using(Ray(workers=1)):
        cfa.audit(images, worlds.audited(), autoencoder=Broken(), out=tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
