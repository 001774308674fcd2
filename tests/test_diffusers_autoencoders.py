"""Autoencoders in diffusers' format: the three classes, folders, hub names without a network, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from autoencoder_files import audited_with, images, is_differentiable
from cfalign._errors import BadInput
from cfalign.autoencoders import WrappedAutoencoder, load

diffusers = pytest.importorskip("diffusers", reason="needs the extra diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument:UserWarning")  # of diffusers
WEIGHTS = "diffusion_pytorch_model.safetensors"


def kl(**more: Any) -> Any:
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        **{"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4, "sample_size": 32, **more},
    )


def vq(**more: Any) -> Any:
    return diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        **{"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 4, "sample_size": 32, **more},
    )


def tiny(**more: Any) -> Any:
    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        **more,
    )


KINDS: dict[str, Callable[..., Any]] = {
    "kl": kl,
    "vq": vq,
    "spatial": lambda: vq(norm_type="spatial", block_out_channels=(32, 32)),
    "tiny": tiny,
}


def saved(model: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # larger than at the start, so that something is to be seen
            parameter.copy_(torch.randn_like(parameter) * (0.15 if parameter.ndim > 1 else 0.1) + ("norm" in name))
    model.save_pretrained(folder)
    return folder


def loaded(spec: Path | str) -> WrappedAutoencoder:
    found = load(f"diffusers:{spec}")
    assert isinstance(found, WrappedAutoencoder)
    return found


@torch.no_grad()
@pytest.mark.parametrize("kind", list(KINDS))
def test_each_class_is_what_diffusers_runs(kind: str, tmp_path: Path) -> None:
    model = KINDS[kind]().eval()
    autoencoder = loaded(saved(model, tmp_path / "mine"))
    assert autoencoder.name == "mine"
    assert (autoencoder.size, autoencoder.stride) == ((None, 4) if kind == "tiny" else (32, 2))
    x = images(2, 32)
    z, y = autoencoder.encode(x), autoencoder.decode(autoencoder.encode(x))
    theirs = model.encode(2 * x - 1)
    if kind == "kl":
        assert torch.equal(z, theirs.latent_dist.mean)
        whole = model(2 * x - 1, sample_posterior=False).sample
    elif kind == "tiny":
        assert torch.equal(z, theirs.latents)
        whole = model.decode(z).sample  # its forward rounds latents to bytes on the way
    else:
        assert torch.equal(z, model.quantize(theirs.latents)[0])
        assert (z != theirs.latents).any()
        whole = model(2 * x - 1).sample
        shifted = model.decode(z + 0.3, force_not_quantize=True).sample
        torch.testing.assert_close(autoencoder.decode(z + 0.3), (shifted.clamp(-1, 1) + 1) / 2)
    torch.testing.assert_close(y, (whole.clamp(-1, 1) + 1) / 2, atol=1e-5, rtol=0)
    odd = images(2, 33)
    assert autoencoder.decode(autoencoder.encode(odd)).shape == odd.shape


@pytest.mark.parametrize("kind", list(KINDS))
def test_gradients_flow_and_an_audit_passes(kind: str, tmp_path: Path) -> None:
    autoencoder = loaded(saved(KINDS[kind](), tmp_path / "mine"))
    is_differentiable(autoencoder, images(2, 32))
    audited_with(autoencoder, size=32, out=tmp_path / "run")


@torch.no_grad()
def test_subfolders_grey_models_and_half_precision(tmp_path: Path) -> None:
    model = kl(in_channels=1, out_channels=1)
    saved(model.half(), tmp_path / "pipeline" / "vae")
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    autoencoder = loaded(f"{tmp_path}/pipeline:vae")
    assert autoencoder.name == "vae"
    x = images(2, 32)
    y = autoencoder.decode(autoencoder.encode(x))
    assert (y.shape, y.dtype) == (x.shape, torch.float32)
    with pytest.raises(BadInput, match=r"whole pipeline, try diffusers:.*pipeline:vae"):
        load(f"diffusers:{tmp_path}/pipeline")


def configured(**changes: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        says = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**says, **changes}))

    return write


def rewritten(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})

    return write


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:999])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (configured(_class_name="UNet2DModel"), r"class AutoencoderKL, VQModel, AutoencoderTiny, got UNet2DModel"),
        (configured(in_channels=4), r"must map 3 channels to 3, or 1 to 1 \(grey\), got 4 to 3"),
        (configured(latent_channels=8), "cannot be read: "),
        (configured(layers_per_block=2), r"do not fit its config\.json: they lack .* and \d+ more"),
        (rewritten(lambda s: s.pop("decoder.conv_in.bias")), r"they lack decoder\.conv_in\.bias\."),
        (rewritten(lambda s: s.update({"more": torch.zeros(1)})), "hold keys that it has no place for: more"),
        (cut, "cannot be read: "),
        (lambda f: (f / WEIGHTS).unlink(), "cannot be read: OSError"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read: "),
        (lambda f: (f / "config.json").unlink(), r"There is no config\.json in "),
        (shutil.rmtree, "There is no folder"),
    ],
)
def test_folders_that_do_not_hold_an_autoencoder(
    change: Callable[[Path], object], sentence: str, tmp_path: Path
) -> None:
    folder = saved(kl(), tmp_path / "mine")
    change(folder)
    with pytest.raises(BadInput, match=sentence) as caught:
        load(f"diffusers:{folder}")
    assert "\n" not in str(caught.value)


class Runs:
    """Makes a folder when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_with_code_is_not_run(tmp_path: Path) -> None:
    folder = saved(kl(), tmp_path / "mine")
    state, pickled = load_file(folder / WEIGHTS), folder / WEIGHTS.replace(".safetensors", ".bin")
    (folder / WEIGHTS).unlink()
    torch.save(state, pickled)
    assert loaded(folder).size == 32
    torch.save({**state, "more": Runs(tmp_path / "mark")}, pickled)
    for trust in (False, True):
        with pytest.raises(BadInput, match="cannot be read: ") as caught:
            load(f"diffusers:{folder}", trust=trust)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "mark").exists()


def test_a_hub_name_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        BadInput, match=r"someone/vae cannot be loaded from the hub .* give diffusers:FOLDER\.$"
    ) as caught:
        load("diffusers:someone/vae")
    assert "\n" not in str(caught.value)
    for name in ("", ":vae", "./nothing:vae", "just-a-name", "a/b/c"):
        with pytest.raises(BadInput, match="There is no folder"):
            load(f"diffusers:{name}")
    file = tmp_path / "weights.bin"
    file.write_bytes(b"")
    with pytest.raises(BadInput, match=r"is a file; expected the folder that holds its config\.json"):
        load(f"diffusers:{file}")
