"""Families of autoencoders: the paper's by name, extras that are missing, and images of any size and channels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import worlds
from autoencoder_files import images, write_vqgan
from cfalign._errors import BadInput
from cfalign._models.downloads import published
from cfalign._models.fingerprint import fingerprint
from cfalign.autoencoders import WrappedAutoencoder, load, wrap
from cfalign.autoencoders.by_spec import FAMILIES


class Pooled:
    """A latent per 4×4 square, as a convolutional autoencoder of stride 4 has it; remembers what it saw."""

    def __init__(self, channels: int = 3) -> None:
        self.channels, self._seen = channels, torch.zeros(0)

    def encode(self, images: Tensor) -> Tensor:
        assert images.shape[1] == self.channels
        assert images.shape[2] % 4 == images.shape[3] % 4 == 0
        self._seen = images
        return torch.nn.functional.pixel_unshuffle(images, 4)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.nn.functional.pixel_shuffle(latents, 4)


# -- size and channels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8), (9, 8), (8, 11), (13, 17), (3, 2), (1, 1)])
def test_padding_is_a_reflection_and_is_cropped_again(shape: tuple[int, int]) -> None:
    inner = Pooled()
    autoencoder = wrap(inner, stride=4)
    x = torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(autoencoder.decode(autoencoder.encode(x)), x)
    height, width = shape
    assert torch.equal(inner._seen[..., :height, :width], x)
    lacks = (0, -width % 4, 0, -height % 4)
    if lacks[1] < width and lacks[3] < height:
        assert torch.equal(inner._seen, torch.nn.functional.pad(x, lacks, mode="reflect"))


def test_the_padding_of_the_last_images_counts() -> None:
    autoencoder = wrap(Pooled(), stride=4)
    for width in (8, 7, 6, 8):
        z = autoencoder.encode(torch.rand(1, 3, 8, width))
        assert autoencoder.decode(z).shape[-1] == width
    other = autoencoder.encode(torch.rand(1, 3, 12, 11))
    assert autoencoder.decode(z).shape[-1] == 8, "latents of another shape do not interfere"
    assert autoencoder.decode(other).shape[-2:] == (12, 11)
    assert autoencoder.decode(torch.zeros(1, 48, 9, 9)).shape[-2:] == (36, 36), "a latent of nobody is not cropped"


def test_padding_is_differentiable() -> None:
    x = torch.rand(1, 3, 6, 6, requires_grad=True)
    wrap(Pooled(), stride=4).encode(x).sum().backward()
    assert x.grad is not None
    counted = torch.tensor([1.0, 1.0, 1.0, 2.0, 2.0, 1.0])  # of 6 rows, the fourth and fifth are mirrored to make 8
    assert torch.equal(x.grad[0, 0], torch.outer(counted, counted))


def test_grey_autoencoders_see_the_mean_and_answer_in_every_channel() -> None:
    inner = Pooled(channels=1)
    autoencoder = wrap(inner, stride=4, grey=True, value_range=(-1024.0, 1024.0))
    x = torch.rand(2, 3, 10, 9)
    y = autoencoder.decode(autoencoder.encode(x))
    assert y.shape == x.shape
    torch.testing.assert_close(y, x.mean(1, keepdim=True).expand_as(x), atol=1e-4, rtol=0)
    assert inner._seen.max() > 1
    one = autoencoder.decode(autoencoder.encode(x[:, :1]))
    torch.testing.assert_close(one, x[:, :1], atol=1e-4, rtol=0)
    assert wrap(Pooled(1), stride=4, grey=True).decode(torch.zeros(1, 16, 2, 2)).shape == (1, 3, 8, 8)


def test_what_was_encoded_changes_no_fingerprint() -> None:
    autoencoder = wrap(worlds.LinearAutoencoder(), size=16)
    before = fingerprint(autoencoder)
    autoencoder.encode(worlds.images(2))
    assert fingerprint(autoencoder) == before
    with pytest.raises(BadInput, match="stride must be at least 1"):
        wrap(Pooled(), stride=0)


# -- names ------------------------------------------------------------------------------------------------------------


def test_an_unknown_family_is_told_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"Unknown autoencoder 'vae:x'; .* FAMILY:NAME \(taming, diffusers, taesd, xrv"):
        load("vae:x")


@pytest.mark.parametrize(
    ("spec", "package", "extra"),
    [
        ("taming:{file}", "yaml", "diffusers"),
        ("taming:{file}", "diffusers", "diffusers"),
        ("diffusers:someone/vae", "diffusers", "diffusers"),
        ("xrv:101-elastic", "torchxrayvision", "xrv"),
    ],
)
def test_a_missing_package_names_its_extra(
    spec: str, package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if package == "diffusers":
        pytest.importorskip("yaml", reason="needs the extra diffusers")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput, match=rf"needs the package '{package}'.*pip install \"cfalign\[{extra}\]\""):
        load(spec.format(file=write_vqgan(tmp_path)))


def test_importing_the_families_imports_no_extra() -> None:
    from importlib import import_module

    for module in FAMILIES:
        assert callable(import_module(f"cfalign.autoencoders.families.{module}").load)


# -- the paper's ------------------------------------------------------------------------------------------------------


def test_the_papers_autoencoder_tells_where_it_is_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFALIGN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BadInput, match=r"2020-11-13T21-41-45_faceshq\.pth, .*\.yaml is not in") as caught:
        load("celeba:faceshq")
    said = str(caught.value)
    assert all(part in said for part in ("cfalign models fetch faceshq", "ieee8023/latentshift", "release `weights`"))
    assert str(tmp_path / "cache") in said
    assert "\n" not in said
    with pytest.raises(BadInput, match=r"There is no autoencoder celeba:faceshd; nearest valid: faceshq"):
        load("celeba:faceshd")


@torch.no_grad()
def test_the_papers_autoencoder_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers", reason="needs the extra diffusers")
    monkeypatch.setenv("CFALIGN_CACHE", str(tmp_path))
    file = write_vqgan(tmp_path, published("faceshq").assets[0].file)
    found: Any = load("celeba:faceshq")
    assert isinstance(found, WrappedAutoencoder)
    assert (found.name, found.size) == ("faceshq", 32)
    assert torch.equal(found.encode(images(1, 32)), load(f"taming:{file}").encode(images(1, 32)))
    file.with_suffix(".yaml").unlink()
    with pytest.raises(BadInput, match=r"^2020-11-13T21-41-45_faceshq\.yaml is not in"):
        load("celeba:faceshq")
