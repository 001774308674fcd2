"""VQ-GAN checkpoints of taming-transformers: equal to the original, read from their yaml, strict, safe."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import cfalign as cfa
import worlds
from autoencoder_files import (
    audited_with,
    drawn,
    images,
    is_differentiable,
    vqgan_shapes,
    vqgan_yaml,
    write_images,
    write_vqgan,
)
from cfalign._errors import BadInput
from cfalign.autoencoders import WrappedAutoencoder, load
from cfalign.autoencoders.families import taming
from cfalign.classifiers import wrap

pytest.importorskip("diffusers", reason="needs the extra diffusers")

ORIGINAL = Path(__file__).parent / "vqgan_original.safetensors"
"""What the authors' own code answers, with the weights of ``drawn(vqgan_shapes(…))`` and the images below."""


def loaded(spec: Path | str, **more: Any) -> WrappedAutoencoder:
    found = load(f"taming:{spec}", **more)
    assert isinstance(found, WrappedAutoencoder)
    return found


def unclipped(autoencoder: WrappedAutoencoder, latents: Tensor) -> Tensor:
    model: Any = autoencoder.module.model
    decoded: Tensor = model.decoder(model.post_quant_conv(latents))
    return decoded


@pytest.mark.parametrize("kind", ["vq", "gumbel"])
@torch.no_grad()
def test_encoding_and_decoding_are_those_of_the_original(kind: str, tmp_path: Path) -> None:
    recorded = load_file(ORIGINAL)
    more: dict[str, Any] = {"gumbel": True, "embed": 16} if kind == "gumbel" else {}
    autoencoder = loaded(write_vqgan(tmp_path, **more))
    assert (autoencoder.size, autoencoder.stride, autoencoder.name) == (32, 2, "faces")
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    z = autoencoder.encode(x)
    torch.testing.assert_close(z, recorded[f"{kind}.z"], atol=1e-4, rtol=0)
    torch.testing.assert_close(unclipped(autoencoder, z), recorded[f"{kind}.image"], atol=1e-4, rtol=0)
    shifted = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(unclipped(autoencoder, shifted), recorded[f"{kind}.shifted"], atol=1e-4, rtol=0)
    clipped = (recorded[f"{kind}.shifted"].clamp(-1, 1) + 1) / 2
    torch.testing.assert_close(autoencoder.decode(shifted), clipped, atol=1e-4, rtol=0)


@pytest.mark.parametrize("gumbel", [False, True])
@torch.no_grad()
def test_latents_are_codes_and_shifted_ones_stay_shifted(gumbel: bool, tmp_path: Path) -> None:
    autoencoder = loaded(write_vqgan(tmp_path, gumbel=gumbel, embed=16))
    z = autoencoder.encode(images(3, 32))
    assert z.shape == (3, 16, 16, 16)
    quantiser: Any = autoencoder.module.model.quantize
    codes = (quantiser.embed if gumbel else quantiser.embedding).weight
    nearest = (z.permute(0, 2, 3, 1).reshape(-1, 1, 16) - codes).abs().amax(2).amin(1)
    assert nearest.max() < 1e-6
    assert (autoencoder.decode(z + 1e-3) != autoencoder.decode(z)).any()


def test_gradients_flow_from_the_score_to_the_latent(tmp_path: Path) -> None:
    is_differentiable(loaded(write_vqgan(tmp_path)), images(2, 32))


def test_an_audit_of_eight_images(tmp_path: Path) -> None:
    audited_with(loaded(write_vqgan(tmp_path / "model")), size=48, out=tmp_path / "run")


def test_an_audit_from_the_command_line(tmp_path: Path) -> None:
    words = ["--images", write_images(tmp_path / "images", 4), "--classifier", f"{worlds.__file__}:mean_colours"]
    file = write_vqgan(tmp_path / "model")
    ended = worlds.cfalign(
        "audit", *words, "--autoencoder", f"taming:{file}", "--out", tmp_path / "run", folder=tmp_path
    )
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["images"] == 4
    more = ["--autoencoder", f"taming:{file}", "--size", 20, "--limit", 1, "--out", tmp_path / "small"]
    ended = worlds.cfalign("audit", *words, *more, folder=tmp_path)
    assert ended.code == 0, ended.err
    file.with_suffix(".yaml").unlink()
    ended = worlds.cfalign("audit", *words, "--autoencoder", f"taming:{file}", folder=tmp_path)
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert "needs the yaml that it was trained with" in ended.err


def test_a_large_photograph_with_a_classifier_of_another_size(tmp_path: Path) -> None:
    file = write_vqgan(tmp_path / "model", ch_mult=(1, 1, 1, 1, 1), resolution=256)
    autoencoder = loaded(file)
    assert (autoencoder.size, autoencoder.stride) == (256, 16)
    classifier = wrap(worlds.MeanColours(), ["red", "green", "blue"], size=224, normalize=([0.1] * 3, [0.9] * 3))
    folder = write_images(tmp_path / "images", 1, size=1024)
    run = cfa.audit(folder, classifier, autoencoder=autoencoder, bases=["red"], out=tmp_path / "run")
    assert run.record()["status"] == "complete"
    with torch.no_grad():
        x = torch.rand(1, 3, 300, 513, generator=torch.Generator().manual_seed(0))
        assert autoencoder.decode(autoencoder.encode(x)).shape == x.shape


@torch.no_grad()
def test_any_size_is_padded_and_cropped(tmp_path: Path) -> None:
    autoencoder = loaded(write_vqgan(tmp_path, ch_mult=(1, 1, 2), attn=(8,)))
    assert autoencoder.stride == 4
    for height, width in ((33, 50), (6, 4), (64, 64), (5, 7)):
        x = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
        z = autoencoder.encode(x)
        assert z.shape == (2, 8, -(-height // 4), -(-width // 4))
        assert autoencoder.decode(z).shape == x.shape
    even = images(1, 32)
    assert torch.equal(autoencoder.encode(even), autoencoder.module.encode(even * 2 - 1))


@torch.no_grad()
def test_a_grey_vqgan_takes_colour_images(tmp_path: Path) -> None:
    autoencoder = loaded(write_vqgan(tmp_path, channels=1))
    x = images(2, 32)
    y = autoencoder.decode(autoencoder.encode(x))
    assert y.shape == x.shape
    assert torch.equal(y[:, 0], y[:, 2])


def test_where_file_and_yaml_may_lie(tmp_path: Path) -> None:
    x, file = images(1, 32), write_vqgan(tmp_path)
    z = loaded(file).encode(x)
    elsewhere = tmp_path / "configs" / "model.yml"
    elsewhere.parent.mkdir()
    file.with_suffix(".yaml").rename(elsewhere)
    assert torch.equal(loaded(f"{file}:{elsewhere}").encode(x), z)
    elsewhere.rename(file.with_suffix(".yml"))
    assert torch.equal(loaded(file).encode(x), z)
    bare = {k: v for k, v in torch.load(file)["state_dict"].items() if not k.startswith("loss.")}
    save_file({k: v.half() for k, v in bare.items()}, tmp_path / "faces.safetensors")
    halved = loaded(tmp_path / "faces.safetensors")
    assert halved.encode(x).dtype == torch.float32


# -- what is refused --------------------------------------------------------------------------------------------------


def spoil(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(file: Path) -> None:
        state = drawn(vqgan_shapes())
        change(state)
        state["loss.logvar"] = torch.zeros(1)
        torch.save({"state_dict": state}, file)

    return rewrite


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (spoil(lambda s: s.pop("decoder.up.0.block.1.conv1.bias")), r"missing decoder\.up\.0\.block\.1\.conv1\.bias;"),
        (
            spoil(lambda s: s.update({"encoder.temb.weight": torch.zeros(1)})),
            r"missing nothing; unexpected encoder\.temb\.weight \(1 keys loss\.\* are ignored\)",
        ),
        (spoil(lambda s: s.clear()), r"missing encoder\.conv_in\.weight, .* and \d+ more; unexpected nothing"),
        (
            spoil(lambda s: s.update({"quantize.embedding.weight": torch.zeros(65, 8)})),
            r"quantize\.embedding\.weight in .* must have the shape \[64, 8\] by .*, got \[65, 8\]; the yaml",
        ),
        (lambda p: p.write_bytes(p.read_bytes()[:5000]), "cut short or damaged"),
        (lambda p: p.unlink(), "There is no weight file"),
        (lambda p: torch.save([1, 2], p), "holds a list, expected a checkpoint"),
        (lambda p: p.write_text("version https://git-lfs"), "neither safetensors nor a checkpoint"),
    ],
)
def test_checkpoints_that_do_not_fit(change: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    file = write_vqgan(tmp_path)
    change(file)
    with pytest.raises(BadInput, match=sentence) as caught:
        load(f"taming:{file}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            vqgan_yaml(target="taming.models.cond_transformer.Net2NetTransformer"),
            r"must describe a VQ-GAN .*, got the target '.*Net2NetTransformer'",
        ),
        (vqgan_yaml(ch_mult=[1, 2, 2]), r"missing encoder\.down\.1\.downsample.*unexpected|does not hold the network"),
        (vqgan_yaml(ch_mult=None), r"ddconfig\.ch_mult is missing; expected a list of whole numbers"),
        (vqgan_yaml(ch_mult="1,2"), r"ch_mult is '1,2'; expected a list"),
        (vqgan_yaml(ch_mult=[]), r"ch_mult is \[\]; expected a list"),
        (vqgan_yaml(z_channels=0), r"z_channels is 0; expected a whole number of at least 1"),
        (vqgan_yaml(ch="wide"), r"ddconfig\.ch is 'wide'; expected a whole number"),
        (vqgan_yaml(ch=33), "describes a network that cannot be built: .*divisible"),
        (vqgan_yaml(double_z=True), r"double_z must be false, as in every VQ-GAN, got True"),
        (vqgan_yaml(resamp_with_conv=False), r"resamp_with_conv must be true, got False"),
        (vqgan_yaml(in_channels=4), "in_channels and out_ch must both be 3"),
        (vqgan_yaml(attn_resolutions=[32]), "does not hold the network"),
        (
            vqgan_yaml(n_embed=16384),
            r"quantize\.embedding\.weight in .* must have the shape \[16384, 8\] by .*, got \[64, 8\]",
        ),
        ("model:\n  target: taming.models.vqgan.VQModel\n", "no section model.params"),
        ("model: [unclosed\n", "cannot be read as yaml"),
        ("", "has no section model; expected the yaml"),
        ("just text", "has no section model"),
        ("model: !!python/object/apply:os.system ['true']\n", "cannot be read as yaml: could not determine a constr"),
    ],
)
def test_a_wrong_yaml_is_one_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    file = write_vqgan(tmp_path)
    file.with_suffix(".yaml").write_text(text)
    with pytest.raises(BadInput, match=sentence) as caught:
        load(f"taming:{file}")
    assert "\n" not in str(caught.value)


class Callback:
    """Makes a folder when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_with_code_needs_trust(tmp_path: Path) -> None:
    file, mark = write_vqgan(tmp_path), tmp_path / "mark"
    content = torch.load(file)
    torch.save({**content, "callbacks": Callback(mark)}, file, pickle_module=pickle)
    with pytest.raises(BadInput, match=r"runs code when it is read .*--trust"):
        load(f"taming:{file}")
    assert not mark.exists()
    assert loaded(file, trust=True).size == 32
    assert mark.exists()


def test_specs_that_name_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="The spec taming: needs a file"):
        load("taming:")
    file = write_vqgan(tmp_path)
    with pytest.raises(BadInput, match=r"there is no .*other\.yaml; put it there"):
        load(f"taming:{file}:{tmp_path}/other.yaml")


def test_an_untrained_network_has_the_layout_and_codes_of_a_trained_size() -> None:
    layout = taming.VQGANLayout("VQModel", 3, 32, (1, 2), 1, (16,), 32, 16, 64, 8)
    before = torch.get_rng_state()
    found = taming.untrained(layout, seed=3, name="random")
    assert torch.equal(torch.get_rng_state(), before)
    assert (found.size, found.stride, found.name) == (32, 2, "random")
    x = images(2, 32)
    with torch.no_grad():
        z = found.encode(x)
        assert z.shape == (2, 8, 16, 16)
        assert 0.5 < z.std() < 2
        assert torch.equal(taming.untrained(layout, seed=3).encode(x), z)
        assert not torch.equal(taming.untrained(layout, seed=4).encode(x), z)
    is_differentiable(found, x)
