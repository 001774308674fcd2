"""The ResNetAE of torchxrayvision: its grey range, colour images, files and names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from autoencoder_files import audited_with, images, is_differentiable
from cfalign._errors import BadInput, BadModel
from cfalign.autoencoders import WrappedAutoencoder, load, wrap
from cfalign.autoencoders.families.xrv import Radiographs

xrv = pytest.importorskip("torchxrayvision", reason="needs the extra xrv")
GAIN = 3000.0  # an untrained network's outputs are near 0, and radiographs range over 2048


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    made = xrv.autoencoders.ResNetAE50().eval()
    with torch.no_grad():
        made.conv1_1.weight.mul_(GAIN)
    return made


@pytest.fixture(scope="module")
def file(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("weights") / "chests.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def autoencoder(file: Path) -> WrappedAutoencoder:
    found = load(f"xrv:{file}")
    assert isinstance(found, WrappedAutoencoder)
    return found


@torch.no_grad()
def test_it_is_what_the_library_runs(network: Any, autoencoder: WrappedAutoencoder) -> None:
    assert (autoencoder.name, autoencoder.size) == ("chests", 224)
    x = images(2, 224)
    grey = (x.mean(1, keepdim=True) * 2048 - 1024).clamp(-1024, 1024)
    normalised = torch.from_numpy(xrv.datasets.normalize((x.mean(1, keepdim=True) * 255).numpy(), 255))
    torch.testing.assert_close(grey, normalised, atol=2e-3, rtol=1e-5)
    z = autoencoder.encode(x)
    assert z.shape == (2, 512, 3, 3)
    torch.testing.assert_close(z, network.encode(grey), atol=1e-4, rtol=1e-5)
    y, theirs = autoencoder.decode(z), (network.decode(z, [2, 1, 224, 224]).clamp(-1024, 1024) + 1024) / 2048
    assert y.shape == x.shape
    torch.testing.assert_close(y, theirs.expand(-1, 3, -1, -1), atol=1e-5, rtol=1e-5)
    single = x[:, :1]
    assert autoencoder.decode(autoencoder.encode(single)).shape == single.shape


def test_gradients_flow(autoencoder: WrappedAutoencoder) -> None:
    is_differentiable(autoencoder, images(1, 224))


def test_an_audit_of_eight_images(tmp_path: Path) -> None:
    parts = xrv.autoencoders
    torch.manual_seed(0)
    shallow = parts._ResNetAE(parts.Bottleneck, parts.DeconvBottleneck, [1, 1, 1, 1], 1)  # the others take minutes
    shallow.weights = None
    with torch.no_grad():
        shallow.conv1_1.weight.mul_(GAIN)
    autoencoder = wrap(Radiographs(shallow), size=224, value_range=(-1024.0, 1024.0), grey=True)
    audited_with(autoencoder, size=32, out=tmp_path / "run", bases=["red"], limit=2)


def test_other_sizes_are_refused(autoencoder: WrappedAutoencoder) -> None:
    with pytest.raises(BadInput, match="needs images of 224x224, got 64x64"):
        autoencoder.encode(images(1, 64))
    with pytest.raises(BadModel, match="raised"):
        autoencoder.decode(torch.zeros(1, 7, 3, 3))


def test_the_deeper_network_is_known_by_its_weights(tmp_path: Path) -> None:
    torch.save({"state_dict": xrv.autoencoders.ResNetAE101().state_dict()}, tmp_path / "deep.pt")
    deep = load(f"xrv:{tmp_path}/deep.pt")
    assert isinstance(deep, WrappedAutoencoder)
    assert len(deep.module.model.layer3) == 23


def test_a_published_name_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (name,) = xrv.autoencoders.model_urls
    nowhere = {**xrv.autoencoders.model_urls[name], "weights_url": "http://127.0.0.1:9/resnetae.pt"}
    monkeypatch.setitem(xrv.autoencoders.model_urls, name, nowhere)
    monkeypatch.setattr("torchxrayvision.utils.get_cache_dir", lambda: str(tmp_path))
    with pytest.raises(BadInput, match=r"get http://127\.0\.0\.1:9/resnetae\.pt elsewhere and give xrv:FILE") as caught:
        load(f"xrv:{name}")
    assert "\n" not in str(caught.value)


def test_a_published_name_is_read_from_the_cache(
    network: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (name,) = xrv.autoencoders.model_urls
    known = {**xrv.autoencoders.model_urls[name], "class": "ResNetAE50"}
    monkeypatch.setitem(xrv.autoencoders.model_urls, name, known)
    monkeypatch.setattr("torchxrayvision.utils.get_cache_dir", lambda: str(tmp_path))
    torch.save(network.state_dict(), tmp_path / Path(known["weights_url"]).name)
    found = load(f"xrv:{name}")
    assert isinstance(found, WrappedAutoencoder)
    assert (found.name, capfd.readouterr().out) == (f"resnetae-{name}", "")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("conv1.weight"), "do not fit the network they describe: .*conv1"),
        (lambda s: s.update(conv1=torch.zeros(1)), "Unexpected key.*conv1"),
        (lambda s: s.clear(), "do not fit the network"),
    ],
)
def test_files_that_do_not_fit(
    change: Callable[[dict[str, Any]], object], sentence: str, network: Any, tmp_path: Path
) -> None:
    state = dict(network.state_dict())
    change(state)
    torch.save(state, tmp_path / "spoilt.pt")
    with pytest.raises(BadInput, match=sentence) as caught:
        load(f"xrv:{tmp_path}/spoilt.pt")
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match=r"has no ResNetAE of this name; (nearest )?valid: 101-elastic"):
        load("xrv:101-elastik")
