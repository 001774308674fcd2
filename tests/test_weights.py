"""Checkpoints of other software: what is read, what is refused, and that nothing is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import pickle
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cfalign._errors import BadInput
from cfalign._models.weights import checked_archive, read_checkpoint, read_object

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.mark),))


def same(found: dict[str, Any]) -> bool:
    return set(found) == set(STATE) and all(torch.equal(found[k], STATE[k]) for k in STATE)


def test_every_form_of_a_checkpoint(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "zip.pt")
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(STATE, tmp_path / "new.safetensors")
    (tmp_path / "new.bin").write_bytes((tmp_path / "new.safetensors").read_bytes())
    for name in ("zip.pt", "old.pth", "new.safetensors", "new.bin"):
        assert same(read_checkpoint(tmp_path / name)), name
        assert same(read_checkpoint(str(tmp_path / name), trust=True)), name
    torch.save({"state_dict": STATE, "epoch": 3, "lr": [0.1]}, tmp_path / "training.ckpt")
    assert read_checkpoint(tmp_path / "training.ckpt")["epoch"] == 3


@pytest.mark.parametrize("modern", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, modern: bool) -> None:
    path, mark = tmp_path / "evil.ckpt", tmp_path / "mark"
    torch.save({"state_dict": STATE, "more": Runs(mark)}, path, _use_new_zipfile_serialization=modern)
    with pytest.raises(BadInput, match=r"runs code when it is read \(it asks for .*mkdir\).*--trust"):
        read_checkpoint(path)
    assert not mark.exists()
    assert same(read_checkpoint(path, trust=True)["state_dict"])
    assert mark.exists()


@pytest.mark.parametrize("modern", [True, False])
def test_what_training_scripts_put_beside_weights_is_read_without_trust(tmp_path: Path, modern: bool) -> None:
    inner = argparse.Namespace(lr=0.1, folder=Path("runs"))
    beside = {
        "args": argparse.Namespace(model="resnet", data=inner),
        "best": np.float64(0.75),
        "step": np.int64(3),
        "generator": np.random.default_rng(0).integers(9, size=4),
        "meters": collections.defaultdict(list, loss=[0.5]),
        "time": datetime.datetime(2026, 1, 2),
    }
    path = tmp_path / "training.pth"
    torch.save({"model": STATE, **beside}, path, _use_new_zipfile_serialization=modern)
    found = read_checkpoint(path)
    assert same(found["model"])
    assert (found["best"], found["step"], found["meters"]["loss"]) == (0.75, 3, [0.5])
    assert str(found["args"].data.folder) == "runs"
    torch.save({"model": STATE, "args": argparse.Namespace(evil=Runs(tmp_path / "mark"))}, path)
    with pytest.raises(BadInput, match="runs code when it is read"):
        read_checkpoint(path)
    assert not (tmp_path / "mark").exists()


def test_a_trusted_checkpoint_needs_no_training_library(tmp_path: Path) -> None:
    library = ModuleType("some_library")
    for name, base in (("Callback", dict), ("Settings", list), ("Logger", object)):
        made = type(name, (base,), {"__module__": "some_library", "__qualname__": name})
        setattr(library, name, made)
    sys.modules["some_library"] = library
    logger = library.Logger()
    logger.folder = "runs"
    content = {"state_dict": STATE, "callbacks": {library.Callback: library.Callback(x=1)}, "logger": logger}
    torch.save({**content, "settings": library.Settings([1, 2])}, tmp_path / "model.ckpt")
    del sys.modules["some_library"]
    with pytest.raises(BadInput, match=r"some_library\.Callback"):
        read_checkpoint(tmp_path / "model.ckpt")
    assert same(read_checkpoint(tmp_path / "model.ckpt", trust=True)["state_dict"])


def test_a_module_is_an_object_and_no_checkpoint(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(BadInput, match=r"torch\.nn\.modules\.linear\.Linear.*--trust"):
        read_object(tmp_path / "module.pt")
    with pytest.raises(BadInput, match=r"whole module \(Linear\).*state_dict"):
        read_checkpoint(tmp_path / "module.pt", trust=True)
    assert isinstance(read_object(tmp_path / "module.pt", trust=True), nn.Linear)
    torch.save(STATE["layer.bias"], tmp_path / "tensor.pt")
    with pytest.raises(BadInput, match="holds a Tensor, expected a checkpoint"):
        read_checkpoint(tmp_path / "tensor.pt")
    torch.save({1: STATE["layer.bias"]}, tmp_path / "numbered.pt")
    with pytest.raises(BadInput, match="holds a dict"):
        read_checkpoint(tmp_path / "numbered.pt")


@pytest.mark.parametrize("trust", [False, True])
def test_damaged_files(tmp_path: Path, trust: bool) -> None:
    path = tmp_path / "model.ckpt"
    with pytest.raises(BadInput, match="There is no weight file"):
        read_checkpoint(path, trust=trust)
    with pytest.raises(BadInput, match="is a folder"):
        read_checkpoint(tmp_path, trust=trust)
    for modern in (True, False):
        torch.save(STATE, path, _use_new_zipfile_serialization=modern)
        whole = path.read_bytes()
        for kept in (0, 1, 5, 40, len(whole) // 2, len(whole) - 8):
            path.write_bytes(whole[:kept])
            with pytest.raises(BadInput, match=r"model\.ckpt .*\.$"):
                read_checkpoint(path, trust=trust)
    for other in (b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\n", b"\x80" * 30):
        path.write_bytes(other)
        with pytest.raises(BadInput, match=r"model\.ckpt .*\.$"):
            read_checkpoint(path, trust=trust)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(BadInput, match=r"torch\.save"):
        read_checkpoint(path, trust=trust)
    save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BadInput, match="cannot be read as safetensors"):
        read_checkpoint(path, trust=trust)


def test_archives_that_torch_has_not_written(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", b"\0" * (64 << 20))
    assert path.stat().st_size < 200_000
    with pytest.raises(BadInput, match="would unpack to 67108864"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(BadInput, match=r"a ZIP archive that torch\.save has not written"):
        read_checkpoint(path)
    assert checked_archive(path) == ["notes.txt"]
    path.write_text("PK, says a text")
    with pytest.raises(BadInput, match="cut short or damaged"):
        checked_archive(path)
    path.write_text("text")
    with pytest.raises(BadInput, match="no archive"):
        checked_archive(path)
    torch.save(STATE, path)
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 6] = 128  # a version of the format that is to come
    path.write_bytes(content)
    with pytest.raises(BadInput, match="cut short or damaged: zip file version"):
        checked_archive(path)
