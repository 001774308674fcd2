"""Tiny autoencoders from their weight files: read from the weights, diffusers as the judge, real photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from autoencoder_files import audited_with, images, is_differentiable, write_tiny
from cfalign._errors import BadInput
from cfalign.autoencoders import WrappedAutoencoder, load

LAYOUTS: dict[str, dict[str, Any]] = {
    "c4": {},
    "c16": {"latent": 16},
    "branched": {"latent": 32, "branch": True},
    "f32": {"latent": 32, "f32": True},
}


def loaded(spec: Path | str, **more: Any) -> WrappedAutoencoder:
    found = load(f"taesd:{spec}", **more)
    assert isinstance(found, WrappedAutoencoder)
    return found


@torch.no_grad()
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_the_layout_is_read_from_the_weights(layout: str, tmp_path: Path) -> None:
    more = LAYOUTS[layout]
    autoencoder = loaded(write_tiny(tmp_path / "tiny", **more))
    stride = 32 if layout == "f32" else 8
    assert (autoencoder.name, autoencoder.size, autoencoder.stride) == ("tiny", None, stride)
    for height, width in ((64, 64), (70, 33)):
        x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        z = autoencoder.encode(x)
        assert z.shape == (2, more.get("latent", 4), -(-height // stride), -(-width // stride))
        assert z.dtype == torch.float32
        assert autoencoder.decode(z).shape == x.shape


@torch.no_grad()
@pytest.mark.parametrize("counted", [1, 0])
def test_it_is_the_network_that_diffusers_has(counted: int, tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs the extra diffusers")
    model = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(16,) * 4, decoder_block_out_channels=(16,) * 4, latent_channels=6
    )
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.1)
    for role, first in (("encoder", 0), ("decoder", counted)):  # published decoders count the squashing
        state = getattr(model, role).layers.state_dict()
        numbered = {f"{int(k.split('.')[0]) + first}.{k.partition('.')[2]}": v for k, v in state.items()}
        save_file(numbered, tmp_path / f"{role}.safetensors")
    autoencoder = loaded(tmp_path)
    x = images(2, 32)
    z = model.encode(2 * x - 1).latents
    torch.testing.assert_close(autoencoder.encode(x), z, atol=1e-5, rtol=1e-5)
    decoded = (model.decode(5 * z).sample + 1) / 2
    torch.testing.assert_close(autoencoder.module.decoder(5 * z), decoded, atol=1e-5, rtol=1e-5)
    assert torch.equal(autoencoder.decode(5 * z), autoencoder.module.decoder(5 * z).clamp(0, 1))


@pytest.mark.parametrize("layout", ["c4", "branched"])
def test_gradients_flow_and_an_audit_passes(layout: str, tmp_path: Path) -> None:
    autoencoder = loaded(write_tiny(tmp_path / "tiny", **LAYOUTS[layout]))
    is_differentiable(autoencoder, images(2, 32))
    audited_with(autoencoder, size=36, out=tmp_path / "run")


@torch.no_grad()
def test_two_files_and_prefixed_names(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny")
    z = loaded(folder).encode(images(1, 32))
    named = f"{folder}/tiny_encoder.pth:{folder}/tiny_decoder.pth"
    assert torch.equal(loaded(named).encode(images(1, 32)), z)
    for role in ("encoder", "decoder"):
        state = torch.load(folder / f"tiny_{role}.pth")
        torch.save({f"{role}.layers.{k}": v for k, v in state.items()}, folder / f"tiny_{role}.pth")
    assert torch.equal(loaded(folder).encode(images(1, 32)), z)


def spoil(role: str, change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        state = torch.load(folder / f"tiny_{role}.pth")
        change(state)
        torch.save(state, folder / f"tiny_{role}.pth")

    return write


def renamed(old: str, new: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda s: s.update({new: s.pop(old)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: (f / "tiny_decoder.pth").unlink(), 'one file with "decoder" in its name .*; there is none'),
        (lambda f: (f / "my_encoder.pt").write_bytes(b""), r"there are my_encoder\.pt, tiny_encoder\.pth"),
        (
            spoil("encoder", lambda s: s.pop("3.conv.2.weight")),
            r"do not fit the network .*Missing key.*3\.conv\.2\.weight",
        ),
        (
            spoil("decoder", lambda s: s.pop("3.conv.0.weight")),
            r"does not have the layout of a TAESD decoder: it lacks",
        ),
        (spoil("decoder", renamed("1.bias", "1.shift")), "do not fit the network they describe: "),
        (spoil("encoder", renamed("0.weight", "first.weight")), r"has the key 'first\.weight'; expected the numbered"),
        (spoil("encoder", lambda s: s.clear()), "has no numbered layers"),
        (spoil("encoder", renamed("14.weight", "99999999.weight")), "has no numbered layers"),
        (spoil("decoder", lambda s: s.update({"1.weight": torch.zeros(8, 5, 3, 3)})), "of 4 channels, but .* takes 5"),
        (
            spoil("encoder", lambda s: s.update({"0.weight": torch.zeros(8, 1, 3, 3)})),
            r"must map 3 channels \(colour\) to 3, got 1 to 3",
        ),
        (lambda f: (f / "tiny_encoder.pth").write_bytes(b"PK\x03\x04 not really"), "cut short or damaged"),
    ],
)
def test_files_that_do_not_fit(change: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny")
    change(folder)
    with pytest.raises(BadInput, match=sentence) as caught:
        load(f"taesd:{folder}")
    assert "\n" not in str(caught.value)


def test_specs_that_name_nothing(tmp_path: Path) -> None:
    for name in ("", "nowhere", "nowhere:"):
        with pytest.raises(BadInput, match="There is no folder"):
            load(f"taesd:{name}")
    with pytest.raises(BadInput, match="There is no weight file"):
        load(f"taesd:{tmp_path}/a.pth:{tmp_path}/b.pth")


@torch.no_grad()
@pytest.mark.parametrize(("size", "least"), [(64, 27.0), (128, 32.5), (256, 36.5)])
def test_public_weights_reconstruct_photographs(size: int, least: float, shared_data: Path) -> None:
    files = sorted((shared_data / "celeba" / "images").glob("*.jpg"))[::280][: 2048 // size]
    squares = [Image.open(f).convert("RGB").crop((0, 12, 89, 101)) for f in files]
    pixels = np.stack([np.asarray(s.resize((size, size), Image.Resampling.BICUBIC)) for s in squares])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    autoencoder = loaded(shared_data / "taef2")
    y = torch.cat([autoencoder.decode(autoencoder.encode(part)) for part in x.split(4)])
    decibels = -10 * ((x - y) ** 2).flatten(1).mean(1).log10()
    assert decibels.mean() > least
