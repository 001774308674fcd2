"""Run directories: whole pieces only, the same hash for the same model, differences named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import worlds
from cfalign._errors import BadInput, RunMismatch, StorageFailed
from cfalign._models.fingerprint import fingerprint
from cfalign._models.guard import device_of, modules_of, undisturbed, user_code
from cfalign._results import Cell
from cfalign._runs.codec import write_json, write_parquet, write_rows, write_tensors, write_text, written
from cfalign._runs.record import refuse_other
from cfalign._runs.run import Run
from cfalign.classifiers import Preprocessing, black_box, wrap

NAN = float("nan")


# -- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_text(path, "one")

    def stop_in_the_middle() -> None:
        with written(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop_in_the_middle()
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


FULL: list[Callable[[Path], None]] = [
    lambda p: write_text(p, "x" * 100_000),
    lambda p: write_parquet(p, pl.DataFrame({"x": np.random.default_rng(0).standard_normal(50_000)})),
    lambda p: write_tensors(p, {"x": torch.zeros(100_000)}),
]


@pytest.mark.parametrize("write", FULL, ids=["text", "parquet", "tensors"])
def test_a_disk_that_refuses_leaves_what_was_there(write: Callable[[Path], None], tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "file"
    path.write_text("before")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        with pytest.raises(StorageFailed, match=r"Could not write .*file: .*make room"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    write(path)
    assert path.stat().st_size > 4096


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageFailed, match="Pick a folder that can be written to"):
        write_text(tmp_path / "file" / "below.txt", "x")
    with pytest.raises(StorageFailed, match="Could not write"):
        write_text(tmp_path / ("n" * 300), "x")


def test_json_has_null_for_nan_and_csv_has_nothing(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": NAN, "b": [1.5, NAN], "c": {"d": "é"}})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": None, "b": [1.5, None], "c": {"d": "é"}}
    assert "é" in text
    cell = Cell("a", "b + 0.5*c", 1 / 3, -0.25, 1.0, NAN, 0.1, 1e-12, 7, 0, NAN, 0.05)
    write_rows(tmp_path / "matrix.csv", [cell], Cell)
    assert (tmp_path / "matrix.csv").read_text() == (
        "base,downstream,psi,ratio_of_means,median,psi_logit,ci_low,ci_high,n,excluded,p,q\n"
        "a,b + 0.5*c,0.333333,-0.25,1,,0.1,1e-12,7,0,,0.05\n"
    )
    table = Run(tmp_path).matrix()
    assert table["psi_logit"].to_list() == [None]
    assert table["n"].dtype == pl.Int64


# -- reading ----------------------------------------------------------------------------------------------------------


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with pytest.raises(BadInput, match=r"holds no run\.json"):
        run.record()
    (tmp_path / "run.json").write_text('{"schema": ')
    with pytest.raises(BadInput, match="cannot be read"):
        run.record()
    (tmp_path / "run.json").write_text('{"schema": 99}')
    with pytest.raises(RunMismatch, match="schema version 99"):
        run.record()
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(RunMismatch, match="schema version None"):
        run.record()
    for read in (run.matrix, run.effects, run.findings, run.responses, run.scores):
        with pytest.raises(BadInput, match=r"did not end|holds no"):
            read()


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "responses" / "00000.parquet", pl.DataFrame({"x": [1]}))
    (tmp_path / "responses" / "00001.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "responses" / ".00002.parquet.part").write_bytes(b"killed")
    with pytest.raises(BadInput, match=r"00001\.parquet is damaged .*delete that file"):
        Run(tmp_path).responses()


def test_differences_between_runs_are_named(tmp_path: Path) -> None:
    old = {"settings": {"limit": 200, "search": {"drop": 0.6}}, "data": {"hash": "a"}}
    refuse_other(old, json.loads(json.dumps(old)), tmp_path)
    new = {"settings": {"limit": 100, "search": {"drop": 0.5}}, "data": {"hash": "a"}}
    with pytest.raises(
        RunMismatch, match=r"settings\.limit was 200, now 100; settings\.search\.drop was 0\.6, now 0\.5"
    ):
        refuse_other(old, new, tmp_path)


# -- fingerprints -----------------------------------------------------------------------------------------------------


class Projection:
    """A user's autoencoder without torch modules."""

    def __init__(self, scale: float = 1.0) -> None:
        self.basis, self.scale, self._calls = np.eye(3), scale, 0

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents


def _net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Dropout(0.1))


def test_a_fingerprint_stays_when_nothing_that_matters_changes() -> None:
    net = _net()
    first = fingerprint(wrap(net, ["a", "b"]))
    net.eval()
    net.requires_grad_(False)
    assert fingerprint(wrap(net, ["a", "b"])) == first
    projection = Projection()
    first = fingerprint(projection)
    projection._calls += 1
    assert fingerprint(projection) == fingerprint(Projection()) == first


def test_a_fingerprint_changes_with_everything_that_decides_the_answers() -> None:
    net = _net()
    moved = Projection()
    moved.basis = np.eye(3) * 2
    other = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2), nn.Dropout(0.2))
    other.load_state_dict(net.state_dict())
    threshold = 0.5
    models = [
        wrap(net, ["a", "b"]),
        wrap(_net(1), ["a", "b"]),
        wrap(net, ["b", "a"]),
        wrap(net, ["a", "b"], link="softmax"),
        wrap(net, ["a", "b"], size=2),
        wrap(net, ["a", "b"], normalize=([0.5], [0.5])),
        wrap(net, ["a", "b"], normalize=([0.4], [0.5])),
        wrap(net, ["a", "b"], prepare=Preprocessing(resize=2)),
        wrap(net, ["a", "b"], prepare=Preprocessing(resize=2, antialias=False)),
        wrap(net, ["a", "b"], prepare=Preprocessing(resize=2, crop=(2, 2))),
        wrap(net, ["a", "b"], prepare=lambda x: x),
        wrap(net, ["a", "b"], prepare=lambda x: x * threshold),
        wrap(other, ["a", "b"]),
        Projection(),
        Projection(2.0),
        moved,
        black_box(lambda x: x.mean(dim=(1, 2, 3)), ["a"]),
        black_box(lambda x: x.amax(dim=(1, 2, 3)), ["a"]),
        black_box(lambda x: x.amax(dim=(1, 2, 3)) * threshold, ["a"]),
        black_box(lambda x: net(x), ["a"]),
        black_box(partial(torch.mean, dim=(1, 2, 3)), ["a"], numpy=True),
    ]
    prints = [fingerprint(m) for m in models]
    assert len(set(prints)) == len(prints)


def test_weights_behind_a_closure_count() -> None:
    def make(seed: int) -> Any:
        net = _net(seed)
        return black_box(lambda x: net(x), ["a", "b"])

    assert fingerprint(make(0)) == fingerprint(make(0))
    assert fingerprint(make(0)) != fingerprint(make(1))


def test_a_fingerprint_is_the_same_in_every_process_and_place(tmp_path: Path) -> None:
    text = (
        "import torch\nfrom torch import nn\nfrom cfalign.classifiers import black_box\n"
        "class Coder(nn.Module):\n    def encode(self, x): return x\n    def decode(self, z): return z\n"
        "def box(): return black_box(lambda x: x.mean((1, 2, 3)), ['a'], name='box')\n"
    )
    found = set()
    for i, folder in enumerate((tmp_path / "one", tmp_path / "two")):
        folder.mkdir()
        (folder / "own.py").write_text(text)
        code = (
            "from cfalign._models.fingerprint import fingerprint; from cfalign import autoencoders, classifiers;"
            f"print(fingerprint(autoencoders.load({str(folder / 'own.py')!r} + ':Coder')),"
            f"fingerprint(classifiers.load({str(folder / 'own.py')!r} + ':box')))"
        )
        environment = {**os.environ, "PYTHONHASHSEED": str(i), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
        )
        found.add(ended.stdout)
    assert len(found) == 1
    (tmp_path / "two" / "own.py").write_text(text.replace("return z", "return z / 2"))
    from cfalign import autoencoders

    prints = {fingerprint(autoencoders.load(f"{tmp_path / f / 'own.py'}:Coder")) for f in ("one", "two")}
    assert len(prints) == 2, "the code of a model counts"


# -- isolation --------------------------------------------------------------------------------------------------------


class Holder:
    """Keeps its modules in the ways that people do."""

    def __init__(self) -> None:
        self.members = {"ensemble": [nn.Linear(1, 1), nn.Linear(1, 1)]}
        self.loop = self

    def predict(self, x: Any) -> Any:
        return x


def test_modules_are_found_wherever_they_are_held() -> None:
    holder, net = Holder(), nn.Linear(2, 2)
    assert modules_of(holder) == holder.members["ensemble"]
    assert modules_of(black_box(holder.predict, ["a"])) == holder.members["ensemble"]
    assert modules_of(black_box(partial(lambda model, x: x, net), ["a"])) == [net]
    assert modules_of(black_box(lambda x: net(x), ["a"])) == [net]
    assert modules_of(black_box(net, ["a"])) == [net]
    assert modules_of(print) == []
    assert device_of(holder) == torch.device("cpu")


def test_undisturbed_restores_after_an_error() -> None:
    holder = Holder()
    one, two = holder.members["ensemble"]
    two.eval()
    two.weight.requires_grad_(False)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()

    def fail() -> None:
        with undisturbed(holder):
            assert not one.training
            assert not one.weight.requires_grad
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (one.training, two.training) == (True, False)
    assert (one.weight.requires_grad, two.weight.requires_grad) == (True, False)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_errors_of_the_users_code_say_whose_they_are() -> None:
    expected = r"^The autoencoder raised ValueError: two lines\.$"
    with pytest.raises(BadInput, match=expected) as caught, user_code("The autoencoder"):
        raise ValueError("two\n  lines.")
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(MemoryError), user_code("x"):
        raise MemoryError
    with pytest.raises(BadInput, match=r"^ours$"), user_code("x"):
        raise BadInput("ours")


def test_worlds_are_as_exact_as_they_say() -> None:
    coder = worlds.LinearAutoencoder()
    images = worlds.images(50)
    assert images.min() > 0
    assert images.max() < 1
    assert torch.allclose(coder.decode(coder.encode(images)), images, atol=1e-5)
    logits = worlds.LinearHeads()(images)
    assert torch.allclose(logits, worlds.GAIN * worlds.latents(50) @ worlds.MIXING, atol=1e-4)
