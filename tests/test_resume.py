"""A run stopped at any moment, by any means, goes on and ends as one that was never stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import worlds

WORLDS = Path(worlds.__file__)
# Ten for the claim that ten kills change nothing: CFALIGN_KILLS=10 pytest tests/test_resume.py
KILLS = int(os.environ.get("CFALIGN_KILLS", "3"))
RESULTS = ("matrix.csv", "effects.csv", "findings.json")


def arguments(images: Path, out: Path) -> list[object]:
    return [
        "audit",
        *worlds.options(
            images=images,
            classifier=f"{WORLDS}:audited",
            reference=f"{WORLDS}:bent_heads",
            autoencoder=f"{WORLDS}:slow_autoencoder",
            out=out,
            limit="40",
            set="chunk=8",
        ),
    ]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worlds.write_images(tmp_path_factory.mktemp("images"), 160)


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    ended = worlds.cfalign(*arguments(images, folder / "run"), folder=folder)
    assert ended.code == 0, ended.err
    return folder / "run"


def shards(run: Path) -> list[str]:
    return sorted(p.name for p in run.glob("responses/*.parquet"))


def assert_same(run: Path, whole: Path) -> None:
    for name in RESULTS:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), f"{name} differs"
    for folder in ("responses", "scores", "curves"):
        for path in (whole / folder).iterdir():
            assert (run / folder / path.name).read_bytes() == path.read_bytes(), f"{folder}/{path.name} differs"
    left = [p for p in run.rglob("*") if p.name.endswith(".part")]
    assert left == [], "what the kills left half-written is gone"
    ours, theirs = (json.loads((p / "run.json").read_text()) for p in (run, whole))
    for record in (ours, theirs):
        record.pop("timing")
        record.pop("spent", None)
    assert ours == theirs


def test_killed_at_random_moments(images: Path, whole: Path, tmp_path: Path) -> None:
    run, total = tmp_path / "run", len(shards(whole))
    moments, killed, progress = random.Random(KILLS), 0, [0]
    # in equal steps through the shards, the last one during statistics and images; each with a random delay
    for goal in (round(total * i / (KILLS - 1)) for i in range(KILLS)):
        command = worlds.Command(*arguments(images, run), folder=tmp_path)
        while command.process.is_alive() and len(shards(run)) < goal:
            time.sleep(0.002)
        command.signal(signal.SIGKILL, after=moments.uniform(0.0, 0.25 if goal in (0, total) else 0.06))
        ended = command.wait()
        assert ended.code in (-signal.SIGKILL, 0), ended.err
        killed += ended.code != 0
        progress.append(len(shards(run)))
    assert killed >= KILLS - 1, "the last one may have been too late"
    assert progress == sorted(progress), "no work is lost"
    assert progress[-1] == total
    # a process with another hash seed, started as a user would; sums of floats depend on the number of threads
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONHASHSEED": "99", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cfalign", *map(str, arguments(images, run))]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    assert_same(run, whole)


def wait_for(file: Path, command: worlds.Command) -> None:
    while not file.exists():
        assert command.process.is_alive(), f"the command ended without {file}"
        time.sleep(0.002)


def test_interrupted(images: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = worlds.Command(*arguments(images, run), folder=tmp_path)
    wait_for(run / "responses" / "00002.parquet", command)
    command.signal(signal.SIGINT)
    ended = command.wait()
    assert ended.code == 130
    assert "Traceback" not in ended.err
    assert "the work so far is kept: give the same command again" in ended.err
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "running"
    kept = shards(run)
    assert 3 <= len(kept) < len(shards(whole))
    times = {name: (run / "responses" / name).stat().st_mtime_ns for name in kept}
    report = worlds.cfalign("report", run, folder=tmp_path)
    assert report.code == 2
    assert "is not finished" in report.err
    assert worlds.cfalign(*arguments(images, run), folder=tmp_path).code == 0
    assert {name: (run / "responses" / name).stat().st_mtime_ns for name in kept} == times, "kept work is not redone"
    assert_same(run, whole)
    assert json.loads((run / "run.json").read_text())["timing"]["seconds_before"] > 0


def test_a_finished_run_given_again_stays_what_it_is(images: Path, whole: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (whole / "responses").iterdir()}
    contents = [(whole / name).read_bytes() for name in RESULTS]
    ended = worlds.cfalign(*arguments(images, whole), folder=tmp_path)
    assert ended.code == 0, ended.err
    assert {p: p.stat().st_mtime_ns for p in (whole / "responses").iterdir()} == before
    assert [(whole / name).read_bytes() for name in RESULTS] == contents


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 160 KiB; needs root and the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_in_the_middle(images: Path, whole: Path, small_disk: Path, tmp_path: Path) -> None:
    run = small_disk / "run"
    ended = worlds.cfalign(*arguments(images, run), folder=tmp_path)
    assert ended.code == 2
    assert "Traceback" not in ended.err
    sentence = ended.err.strip().splitlines()[-1]
    assert "No space left on device" in sentence
    assert "make room" in sentence
    kept = shards(run)
    assert 0 < len(kept) < len(shards(whole))
    for name in kept:
        assert (run / "responses" / name).read_bytes() == (whole / "responses" / name).read_bytes()
    assert not [p for p in run.rglob("*") if p.name.endswith(".part")]
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = worlds.cfalign(*arguments(images, run), folder=tmp_path)
    assert again.code == 0, again.err
    assert_same(run, whole)


@pytest.mark.parametrize("limit", [1000, 12_000, 30_000])
def test_files_that_may_not_grow(limit: int, images: Path, whole: Path, tmp_path: Path) -> None:
    """The same by a limit on the size of files: at the first write, at a shard, at an image or the report."""
    run = tmp_path / "run"
    ended = worlds.Command(*arguments(images, run), folder=tmp_path, file_limit=limit).wait()
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert "Could not write" in ended.err
    assert "File too large" in ended.err
    assert not [p for p in run.rglob("*") if p.name.endswith(".part")]
    if limit == 1000:
        assert list(run.rglob("*")) == []
    ended = worlds.cfalign(*arguments(images, run), folder=tmp_path)
    assert ended.code == 0, ended.err
    assert_same(run, whole)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_output_is_no_traceback(whole: Path, tmp_path: Path) -> None:
    ended = worlds.Command("report", whole, folder=tmp_path, stdout=Path("/dev/full")).wait()
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert "no space left on device" in ended.err
