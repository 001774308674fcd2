"""The device of a call: named, refused where it is not here, and models left where they were."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import cfalign as cfa
import worlds
from cfalign import BadInput
from cfalign._models.device import device_in_use, device_named, devices_here, moved
from cfalign._models.guard import undisturbed
from cfalign.engines import on_device
from cfalign.training import AutoencoderTraining, ClassifierTraining, train_autoencoder
from cfalign.training.processes import in_processes
from test_docs import leaves, options_of

META = torch.device("meta")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU of CUDA is here")
COMPUTE_NOTHING = {"compare", "merge", "report", "check", "settings", "models list", "models info", "models fetch"}
"""Commands that read and write files."""
ON_THE_CPU = {"benchmark speed", "benchmark counterfactuals"}
"""The time of the processor is among their numbers."""


def test_auto_and_the_devices_of_this_machine() -> None:
    here = devices_here()
    assert here[0] == "cpu"
    assert str(device_named("cpu")) == "cpu"
    assert str(device_named("auto")) == ("cpu" if len(here) == 1 else here[1])


@pytest.mark.parametrize("name", ["warp", "cuda:99", "meta", "", "mps:7", "cpu:x"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(BadInput) as caught:
        device_named(name)
    assert str(caught.value).startswith(f"device: expected {', '.join(devices_here())} or auto, got {name!r}: ")
    assert "\n" not in str(caught.value)


def test_a_device_is_in_use_inside_only() -> None:
    assert device_in_use() is None
    with on_device("cpu"), on_device(None):
        assert device_in_use() == torch.device("cpu")
    assert device_in_use() is None
    with pytest.raises(BadInput), on_device("warp"):
        pass
    assert device_in_use() is None


def networks() -> dict[str, nn.Module]:
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    normed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    script = torch.jit.trace(nn.Linear(4, 2), torch.zeros(1, 4))  # type: ignore[no-untyped-call]
    return {"tied": tied, "normed": normed, "script": script, "lazy": nn.LazyLinear(3)}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*Lazy:UserWarning")
@pytest.mark.parametrize("name", ["tied", "normed", "script", "lazy"])
def test_modules_are_moved_and_have_their_own_memory_afterwards(name: str) -> None:
    if devices_here() == ("cpu",):
        pytest.skip("no accelerator is here")
    network, there = networks()[name], device_named("auto")
    tensors = _tensors(network)
    before = [(id(t), t.data_ptr()) for t in tensors]
    with moved([network, network], there):
        assert {t.device for t in tensors} <= {there}
    assert [(id(t), t.data_ptr()) for t in tensors] == before


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["tied", "normed", "script"])
def test_modules_that_cannot_be_moved_stay_as_they_are(name: str) -> None:
    network = networks()[name]
    before = [(id(t), t.data_ptr()) for t in _tensors(network)]
    with pytest.raises(BadInput, match="device: the models cannot be put on meta"), moved([network], META):
        pass
    assert [(id(t), t.data_ptr()) for t in _tensors(network)] == before


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [t for t in (*network.parameters(), *network.buffers()) if not nn.parameter.is_lazy(t)]


def test_what_is_there_already_is_not_copied() -> None:
    network = nn.Linear(2, 2)
    at = network.weight.data_ptr()
    with moved([network], torch.device("cpu")):
        assert network.weight.data_ptr() == at


def test_models_of_a_call_are_on_the_device_in_use() -> None:
    network = nn.Linear(2, 2)
    with on_device("cpu"), undisturbed(network):
        assert network.weight.device == torch.device("cpu")
    with undisturbed(network):
        assert network.weight.device == torch.device("cpu")


def audit_on(device: str, out: Path) -> cfa.Run:
    options = cfa.AuditOptions(limit=20, device=device)
    given: dict[str, Any] = {"autoencoder": worlds.autoencoder(), "reference": worlds.heads(), "out": out}
    return cfa.audit(worlds.images(60), worlds.audited(), options=options, **given)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NO_GPU])])
def test_an_audit_says_the_same_on_every_device(device: str, tmp_path: Path) -> None:
    here, there = audit_on("cpu", tmp_path / "here"), audit_on(device, tmp_path / "there")
    for table, number in (("matrix", "psi"), ("effects", "effect")):
        one, other = (getattr(run, table)()[number].to_numpy() for run in (here, there))
        assert np.nanmax(np.abs(one - other)) < 1e-3
    assert [f["attribute"] for f in here.findings()] == [f["attribute"] for f in there.findings()]


def test_the_device_changes_no_identity_of_a_run(tmp_path: Path) -> None:
    given: dict[str, Any] = {"autoencoder": worlds.autoencoder(), "out": tmp_path / "run"}
    first = cfa.audit(worlds.images(40), worlds.heads(), options=cfa.AuditOptions(limit=5), **given)
    again = cfa.audit(worlds.images(40), worlds.heads(), options=cfa.AuditOptions(limit=5, device="cpu"), **given)
    assert again.record()["settings"] == first.record()["settings"]
    assert "device" not in first.record()["settings"]


@pytest.mark.parametrize(
    "options",
    [cfa.AuditOptions, cfa.ExplainOptions, cfa.RectificationOptions, AutoencoderTraining, ClassifierTraining],
)
def test_settings_refuse_a_device_that_is_not_here(options: Any) -> None:
    with pytest.raises(BadInput, match=r"device: expected cpu.* got 'warp'"):
        options(device="warp")
    assert options(device="auto").device == "auto"


def test_a_training_takes_its_own_device_then_the_one_in_use() -> None:
    assert ClassifierTraining().place == torch.device("cpu")
    with on_device("cpu"):
        assert ClassifierTraining().place == torch.device("cpu")
    assert ClassifierTraining(device="auto").place == device_named("auto")
    assert ClassifierTraining(device="cpu").identity() == ClassifierTraining().identity()


def note_device(path: Path) -> None:
    path.write_text(str(device_in_use()))


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_use_the_device_too(workers: int, tmp_path: Path) -> None:
    with on_device("cpu"):
        in_processes(note_device, [(tmp_path / "a",), (tmp_path / "b",)], workers=workers, stage="some")
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "cpu"


def test_every_command_that_computes_takes_a_device() -> None:
    without = {name.removeprefix("cfalign ") for name, command in leaves() if "--device" not in options_of(command)}
    assert without == COMPUTE_NOTHING | ON_THE_CPU


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--out", "x"],
        ["benchmark", "nulls", "--quick"],
        ["benchmark", "truth", "--classifier", "embedded"],
        ["reproduce", "fig3", "--out", "x"],
        ["train", "planted", "--out", "x"],
    ],
)
def test_a_command_refuses_a_device_in_one_sentence(words: list[str], tmp_path: Path) -> None:
    ended = worlds.cfalign(*words, "--device", "warp", folder=tmp_path)
    assert ended.code == 2
    assert "device: expected cpu" in ended.err
    assert "Traceback" not in ended.err


def test_a_command_runs_on_the_device(tmp_path: Path) -> None:
    worlds.write_images(tmp_path / "images", 40)
    here = str(Path(inspect.getfile(worlds)))
    given = ["--images", "images", "--classifier", f"{here}:audited", "--limit", "5", "--out", "run"]
    given += ["--autoencoder", f"{here}:autoencoder", "--reference", f"{here}:heads"]
    assert worlds.cfalign("audit", *given, "--device", "cpu", folder=tmp_path).code == 0
    train_autoencoder(
        worlds.images(80), out=tmp_path / "ae", options=AutoencoderTraining(size=16, latent=4, device="auto")
    )
