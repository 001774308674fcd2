"""Weight files of other software with random weights, for tests of the families of autoencoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

import cfalign as cfa
import worlds

Sizes = Sequence[tuple[str, tuple[int, ...]]]


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    """Seeded weights of about the size that layers start with, in the order of the names' alphabet."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name in sorted(shapes):
        shape = shapes[name]
        noise = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            state[name] = noise * 0.1 + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        elif name.startswith("quantize.embed"):
            state[name] = noise
        else:
            state[name] = noise * (2.0 / max(1, int(torch.tensor(shape[1:]).prod()))) ** 0.5
    return state


def conv(name: str, after: int, before: int, side: int = 3) -> Sizes:
    return [(f"{name}.weight", (after, before, side, side)), (f"{name}.bias", (after,))]


def norm(name: str, width: int) -> Sizes:
    return [(f"{name}.weight", (width,)), (f"{name}.bias", (width,))]


def residual(name: str, after: int, before: int) -> Sizes:
    found = [*norm(f"{name}.norm1", before), *conv(f"{name}.conv1", after, before)]
    found += [*norm(f"{name}.norm2", after), *conv(f"{name}.conv2", after, after)]
    return [*found, *(conv(f"{name}.nin_shortcut", after, before, 1) if after != before else ())]


def attention(name: str, width: int) -> Sizes:
    parts = [conv(f"{name}.{part}", width, width, 1) for part in ("q", "k", "v", "proj_out")]
    return [*norm(f"{name}.norm", width), *(size for part in parts for size in part)]


def vqgan_shapes(
    *,
    ch: int = 32,
    ch_mult: Sequence[int] = (1, 2),
    blocks: int = 1,
    attn: Sequence[int] = (16,),
    resolution: int = 32,
    z: int = 16,
    codes: int = 64,
    embed: int = 8,
    gumbel: bool = False,
    channels: int = 3,
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint of taming-transformers, from what is known of its layout."""
    widths = [ch * m for m in ch_mult]
    found = [*conv("encoder.conv_in", ch, channels)]
    before = ch
    for level, width in enumerate(widths):
        name, attentive = f"encoder.down.{level}", resolution // 2**level in attn
        for j in range(blocks):
            found += residual(f"{name}.block.{j}", width, before)
            found += attention(f"{name}.attn.{j}", width) if attentive else ()
            before = width
        if level < len(widths) - 1:
            found += conv(f"{name}.downsample.conv", width, width)
    for side in ("encoder", "decoder"):
        found += residual(f"{side}.mid.block_1", before, before) + attention(f"{side}.mid.attn_1", before)
        found += residual(f"{side}.mid.block_2", before, before)
    found += [*norm("encoder.norm_out", before), *conv("encoder.conv_out", z, before)]
    found += conv("decoder.conv_in", before, z)
    for level in reversed(range(len(widths))):
        name, attentive, width = f"decoder.up.{level}", resolution // 2**level in attn, widths[level]
        for j in range(blocks + 1):
            found += residual(f"{name}.block.{j}", width, before)
            found += attention(f"{name}.attn.{j}", width) if attentive else ()
            before = width
        if level > 0:
            found += conv(f"{name}.upsample.conv", width, width)
    found += [*norm("decoder.norm_out", before), *conv("decoder.conv_out", channels, before)]
    found += [*conv("quant_conv", embed, z, 1), *conv("post_quant_conv", z, embed, 1)]
    if gumbel:
        found += [*conv("quantize.proj", codes, z, 1), ("quantize.embed.weight", (codes, embed))]
    else:
        found += [("quantize.embedding.weight", (codes, embed))]
    return dict(found)


def vqgan_yaml(**changes: Any) -> str:
    """The yaml of ``vqgan_shapes()``; ``changes`` are what it says instead."""
    says: dict[str, Any] = {
        "target": "taming.models.vqgan.VQModel",
        "n_embed": 64,
        "embed_dim": 8,
        "double_z": False,
        "z_channels": 16,
        "resolution": 32,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 2],
        "num_res_blocks": 1,
        "attn_resolutions": [16],
        "dropout": 0.0,
        **changes,
    }
    lines = ["model:", "  base_learning_rate: 4.5e-6", f"  target: {says.pop('target')}", "  params:"]
    lines += [f"    {key}: {says.pop(key)}" for key in ("n_embed", "embed_dim")]
    lines += ["    ddconfig:", *(f"      {key}: {value}" for key, value in says.items() if value is not None)]
    return "\n".join([*lines, "    lossconfig:", "      target: taming.modules.losses.DummyLoss", ""])


def write_vqgan(folder: Path, name: str = "faces.ckpt", **more: Any) -> Path:
    """A checkpoint with its yaml beside it; the path of the checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {**drawn(vqgan_shapes(**more)), "loss.discriminator.main.0.weight": torch.zeros(3)}
    torch.save({"state_dict": state, "epoch": 3}, folder / name)
    keys = {
        "z": "z_channels",
        "codes": "n_embed",
        "embed": "embed_dim",
        "blocks": "num_res_blocks",
        "attn": "attn_resolutions",
        "ch": "ch",
        "ch_mult": "ch_mult",
        "resolution": "resolution",
    }
    changes = {keys[k]: list(v) if isinstance(v, tuple) else v for k, v in more.items() if k in keys}
    if more.get("gumbel"):
        changes["target"] = "taming.models.vqgan.GumbelVQ"
    if "channels" in more:
        changes |= {"in_channels": more["channels"], "out_ch": more["channels"]}
    (folder / name).with_suffix(".yaml").write_text(vqgan_yaml(**changes))
    return folder / name


def tiny_shapes(
    *, latent: int = 4, width: int = 8, branch: bool = False, f32: bool = False
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Names and shapes of a TAESD encoder and decoder (f8, or f32 with its stem and its wider decoder)."""

    def block(i: int, w: int, branched: bool = False) -> Sizes:
        found = [size for j in (0, 2, 4) for size in conv(f"{i}.conv.{j}", w, w)]
        if branched:
            found += [(f"{i}.pool.0.weight", (4 * w, w, 1, 1)), *norm(f"{i}.pool.1", 4 * w)]
            found += [(f"{i}.pool.3.weight", (w, 4 * w, 1, 1))]
        return found

    def bare(i: int, after: int, before: int) -> Sizes:
        return [(f"{i}.weight", (after, before, 3, 3))]

    half = width // 2
    start = [*conv("0", half, 3), *conv("2", width, half)] if f32 else conv("0", width, 3)
    at = 4 if f32 else 1
    encoder = [*start, *block(at, width)]
    for stage in range(3):
        encoder += bare(at + 1, width, width)
        encoder += [size for j in (2, 3, 4) for size in block(at + j, width, branch and stage == 2)]
        at += 4
    encoder += conv(str(at + 1), latent, width)
    widths = [4 * width, 2 * width, width, width, width, width] if f32 else [width] * 4
    decoder, at = [*conv("1", widths[0], latent)], 3
    for stage, (w, following) in enumerate(pairwise(widths)):
        decoder += [size for j in range(3) for size in block(at + j, w, branch and stage == 0)]
        decoder += bare(at + 4, following, w)
        at += 5
    decoder += [*block(at, width), *conv(str(at + 1), 3, width)]
    return dict(encoder), dict(decoder)


def write_tiny(folder: Path, **more: Any) -> Path:
    """Weight files of an encoder and a decoder; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for role, shapes in zip(("encoder", "decoder"), tiny_shapes(**more), strict=True):
        state = {k: v * (0.5 if ".conv." in k else 1.0) for k, v in drawn(shapes).items()}
        torch.save({k: v.half() for k, v in state.items()}, folder / f"tiny_{role}.pth")
    return folder


# -- what every family is asked ---------------------------------------------------------------------------------------


def images(count: int, size: int, seed: int = 0) -> Tensor:
    """Smooth random images [count, 3, size, size] in [0, 1]."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)


def write_images(folder: Path, count: int, size: int = 40) -> Path:
    """The same as PNG files."""
    folder.mkdir()
    for i, image in enumerate(images(count, size)):
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def is_differentiable(autoencoder: Any, x: Tensor) -> None:
    """A gradient reaches every latent from a score of the decoded image."""
    with torch.no_grad():
        z = autoencoder.encode(x)
    z = z.detach().requires_grad_(True)
    decoded = autoencoder.decode(z)
    assert decoded.shape == x.shape
    assert 0 <= decoded.min() <= decoded.max() <= 1
    worlds.mean_colours().logits(decoded).sum().backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert (z.grad.flatten(1) != 0).any(dim=1).all()


def audited_with(autoencoder: Any, *, size: int, out: Path, bases: Sequence[str] | None = None, limit: int = 8) -> Any:
    """A whole audit of eight images of this size; its run."""
    colours, options = worlds.mean_colours(), cfa.AuditOptions(limit=limit, shown=1)
    run = cfa.audit(images(8, size), colours, autoencoder=autoencoder, bases=bases, options=options, out=out)
    record = run.record()
    assert (record["status"], record["images"]) == ("complete", 8)
    pairs = {(cell["base"], cell["downstream"]) for cell in run.matrix().to_dicts()}
    assert pairs == {(b, d) for b in bases or colours.targets for d in colours.targets}
    assert "not_finite" not in {outcome for of_base in record["outcomes"].values() for outcome in of_base}
    return run
