"""Autoencoders: the user's own, wrapped and raw, and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import worlds
from cfalign._counterfactuals.origins import reconstruct
from cfalign._errors import BadInput, BadModel
from cfalign._models.weights import save_weights
from cfalign._types import Autoencoder
from cfalign.autoencoders import WrappedAutoencoder, load, wrap
from cfalign.autoencoders.components import ComponentAutoencoder
from cfalign.autoencoders.convolutional import VectorAutoencoder


class Mirrored:
    """Works on images in [-1, 1]."""

    def encode(self, images: Tensor) -> Tensor:
        assert images.min() < -0.5
        return images.flatten(1)

    def decode(self, latents: Tensor) -> Tensor:
        return latents.view(-1, 3, 16, 16)


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_images_of_another_range_are_mapped_both_ways() -> None:
    wrapped = wrap(Mirrored(), value_range=(-1.0, 1.0), size=16, name="mirrored")
    assert isinstance(wrapped, Autoencoder)
    _, x0 = reconstruct(images(), wrapped)
    torch.testing.assert_close(x0, images())
    assert (wrapped.size, wrapped.name) == (16, "mirrored")


def test_gradients_flow_through_the_wrapper() -> None:
    wrapped = wrap(worlds.LinearAutoencoder())
    z = wrapped.encode(images()).detach().requires_grad_(True)
    wrapped.decode(z).sum().backward()
    assert z.grad is not None
    assert (z.grad != 0).any()


class Broken(Mirrored):
    def __init__(self, encode: Any = None, decode: Any = None) -> None:
        self.codes, self.decodes = encode, decode

    def encode(self, images: Tensor) -> Any:
        return self.codes(images) if self.codes else images.flatten(1)

    def decode(self, latents: Tensor) -> Any:
        return self.decodes(latents) if self.decodes else latents.view(-1, 3, 16, 16)


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (Broken(encode=lambda x: (x, x)), "encode returned tuple; expected a tensor"),
        (Broken(encode=lambda x: x.mean()), r"encode returned shape \[\] for a batch of 4"),
        (
            Broken(encode=lambda x: x @ x.mean()),
            r"encode of autoencoder \S+, given images .*raised RuntimeError",
        ),
        (Broken(decode=lambda z: {"sample": z}), "decode returned dict"),
        (
            Broken(decode=lambda z: 1 / 0),
            r"decode of autoencoder \S+, given latents .*raised ZeroDivision",
        ),
        (Broken(decode=lambda z: z.view(-1, 3, 16, 16)[:, :1]), "expected the same shape"),
        (Broken(decode=lambda z: z.view(-1, 3, 16, 16)[:1]), "for a batch of 4"),
        (Broken(decode=lambda z: z.view(-1, 3, 16, 16) * 255), r"range from .* expected \[0, 1\]"),
        (Broken(decode=lambda z: z.view(-1, 3, 16, 16) * 2 - 1), r"\(x \+ 1\) / 2"),
    ],
)
def test_autoencoders_that_break_their_contract(broken: Broken, sentence: str) -> None:
    with pytest.raises(BadModel, match=sentence):
        reconstruct(images(), wrap(broken))


def test_what_cannot_be_wrapped() -> None:
    with pytest.raises(BadInput, match="Linear lacks one of them"):
        wrap(nn.Linear(1, 1))
    with pytest.raises(BadInput, match="low below high"):
        wrap(Mirrored(), value_range=(1.0, -1.0))


def network(**options: Any) -> VectorAutoencoder:
    torch.manual_seed(0)
    return VectorAutoencoder(size=16, latent=8, encoder=(4, 8), decoder=(8, 4), **options).eval()


def components() -> ComponentAutoencoder:
    generator = torch.Generator().manual_seed(0)
    made = ComponentAutoencoder(size=16, latent=8)
    made.mean.fill_(0.5)
    made.basis.copy_(torch.linalg.qr(torch.randn(768, 8, generator=generator)).Q)
    made.scale.copy_(torch.linspace(2, 0.1, 8))
    return made.eval()


def test_components_project_and_clip() -> None:
    made, x = components(), images()
    z = made.encode(x)
    assert z.shape == (4, 8)
    assert made.decode(z).shape == x.shape
    assert torch.equal(made(x), made.decode(z))
    plain = ((x.flatten(1) - 0.5) @ made.basis @ made.basis.T + 0.5).view_as(x)
    torch.testing.assert_close(made(x), plain.clamp(0, 1))
    inside = torch.randn(5, 8, generator=torch.Generator().manual_seed(1)) * 0.1
    torch.testing.assert_close(made.encode(made.decode(inside)), inside, atol=1e-4, rtol=0)
    torch.testing.assert_close(made.encode(torch.full((1, 3, 16, 16), 0.5)), torch.zeros(1, 8))
    far = made.decode(1000 * inside)
    assert (float(far.min()), float(far.max())) == (0, 1)


@pytest.mark.parametrize("architecture", ["components", "convolutional"])
def test_a_weight_file_is_the_autoencoder_that_was_saved(architecture: str, tmp_path: Path) -> None:
    made = components() if architecture == "components" else network()
    assert made.config["architecture"] == architecture
    path = tmp_path / "mine" / "autoencoder.safetensors"
    save_weights(path, made, made.config)
    for spec in (path, path.parent):
        loaded = load(str(spec))
        assert isinstance(loaded, WrappedAutoencoder)
        assert (loaded.name, loaded.size) == ("mine", 16)
        z = loaded.encode(images())
        assert torch.equal(z, made.encode(images()))
        assert torch.equal(loaded.decode(z), made.decode(z))
        assert 0 <= loaded.decode(z).min() <= loaded.decode(z).max() <= 1


def test_files_and_specs_that_are_no_autoencoder(tmp_path: Path) -> None:
    made, path = network(), tmp_path / "autoencoder.safetensors"
    with pytest.raises(BadInput, match="There is no weight file"):
        load(str(tmp_path))
    save_weights(path, made, made.config)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="cannot be read as safetensors"):
        load(str(path))
    save_weights(path, made, {**made.config, "latent": 9})
    with pytest.raises(BadInput, match=r"do not fit the network .* size mismatch"):
        load(str(path))
    save_weights(path, made, {**made.config, "encoder": 3})
    with pytest.raises(BadInput, match="cannot build"):
        load(str(path))
    save_weights(path, made, {**made.config, "architecture": "diffusion"})
    with pytest.raises(BadInput, match="cannot build: unknown architecture 'diffusion'"):
        load(str(path))
    save_weights(path, made, {**made.config, "architecture": "components"})
    with pytest.raises(BadInput, match="do not fit the network"):
        load(str(path))
    unnamed = {k: v for k, v in made.config.items() if k != "architecture"}
    save_weights(path, made, unnamed)
    assert torch.equal(load(str(path)).encode(images()), made.encode(images())), "as the first recipe wrote them"
    with pytest.raises(BadInput, match="Unknown autoencoder 'vqgan'"):
        load("vqgan")
    with pytest.raises(BadInput, match=r"must return an object with the methods encode and decode, got int"):
        load(f"{worlds.__file__}:wrong_thing")


def test_a_raw_object_of_a_factory_is_wrapped_and_keeps_its_size() -> None:
    loaded = load(f"{worlds.__file__}:autoencoder")
    assert isinstance(loaded, WrappedAutoencoder)
    assert (loaded.size, loaded.name) == (16, "LinearAutoencoder")
    x = worlds.images(3)
    assert torch.equal(loaded.decode(loaded.encode(x)), worlds.LinearAutoencoder().decode(loaded.encode(x)))
