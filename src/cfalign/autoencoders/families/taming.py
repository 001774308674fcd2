"""``taming:FILE.ckpt``: VQ-GAN checkpoints of taming-transformers, run by diffusers.

Needs the extra ``diffusers``. FILE may be .ckpt, .pth or .safetensors. The layout of the network is read from the yaml
beside it (same name with .yaml or .yml, or ``taming:FILE:CONFIG.yaml``), never guessed. Its target must be VQModel or
GumbelVQ. z is the quantised code [n, code, h, w] of images in [−1, 1]. The network is convolutional and works on any
size; ``size`` is the one that it was trained on.

Source: Esser, Rombach, Ommer, "Taming Transformers for High-Resolution Image Synthesis", CVPR 2021, and its code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfalign._errors import BadInput
from cfalign._models.extras import imported
from cfalign._models.weights import load_into, read_checkpoint
from cfalign.autoencoders.families.quantised import LikeliestCodes, QuantisedAutoencoder
from cfalign.autoencoders.wrapped_autoencoder import WrappedAutoencoder, wrap

TARGETS = ("VQModel", "GumbelVQ")
IGNORED = "loss."
"""Prefix of keys that belong to the training (discriminator, LPIPS) and are not loaded."""
RENAMED = (
    (r"^encoder\.down_blocks\.", "encoder.down."),
    (r"\.mid_block\.resnets\.0\.", ".mid.block_1."),
    (r"\.mid_block\.resnets\.1\.", ".mid.block_2."),
    (r"\.mid_block\.attentions\.0\.", ".mid.attn_1."),
    (r"\.(?:attentions\.\d+|attn_1)\.(?:group_norm|to_[qkv]|to_out\.0)\.", lambda m: _attention(m[0])),
    (r"\.resnets\.", ".block."),
    (r"\.attentions\.", ".attn."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.(down|up)samplers\.0\.", r".\1sample."),
)
"""From diffusers' names to those of the checkpoint, but for the decoder's levels, which count the other way."""


@dataclass(frozen=True)
class VQGANLayout:
    """The network as the yaml describes it."""

    target: str
    channels: int
    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    resolution: int
    latent: int
    codes: int
    length: int


FACES_HQ = VQGANLayout(
    target="VQModel",
    channels=3,
    width=128,
    multipliers=(1, 1, 2, 2, 4),
    blocks=2,
    attention=(16,),
    resolution=256,
    latent=256,
    codes=1024,
    length=256,
)
"""That of the faces of the paper: images of 256 px, latents [256, 16, 16]."""


def load(name: str, *, trust: bool = False) -> WrappedAutoencoder:
    """The VQ-GAN in the file.

    Raises BadInput when file or yaml are missing, damaged, unsafe or do not fit each other, and without the extra
    ``diffusers``.
    """
    file, config = _paths(name)
    layout = read_layout(config)
    imported("diffusers", extra="diffusers")
    network = QuantisedAutoencoder(_built(layout, config))
    state = converted(_tensors(file, trust=trust), network.model, file=file, config=config)
    load_into(network.model, state, file)
    return _wrapped(network, layout, name=file.stem)


def untrained(layout: VQGANLayout, *, seed: int = 0, name: str = "untrained") -> WrappedAutoencoder:
    """A VQ-GAN of this layout with random weights, for measurements of time and memory.

    The codes are as large as trained ones: standard normal numbers. The global generators are left as they were. Raises
    BadInput without the extra ``diffusers``.
    """
    imported("diffusers", extra="diffusers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = QuantisedAutoencoder(_built(layout, Path(name)))
        with torch.no_grad():
            for codes in network.model.quantize.parameters():
                codes.normal_()
    return _wrapped(network, layout, name=name)


def _wrapped(network: QuantisedAutoencoder, layout: VQGANLayout, *, name: str) -> WrappedAutoencoder:
    network.eval().requires_grad_(False)
    return wrap(
        network,
        size=layout.resolution,
        value_range=(-1.0, 1.0),
        stride=2 ** (len(layout.multipliers) - 1),
        grey=layout.channels == 1,
        name=name,
    )


def _paths(name: str) -> tuple[Path, Path]:
    if not name:
        raise BadInput("The spec taming: needs a file; expected taming:FILE.ckpt with FILE.yaml beside it.")
    text, colon, config = name.rpartition(":")
    if colon and config.endswith((".yaml", ".yml")):
        file, configs = Path(text).expanduser(), [Path(config).expanduser()]
    else:
        file = Path(name).expanduser()
        configs = [file.with_suffix(".yaml"), file.with_suffix(".yml")]
    if not file.is_file():
        raise BadInput(f"There is no weight file {str(file)!r}; expected taming:FILE.ckpt with FILE.yaml beside it.")
    found = next((c for c in configs if c.is_file()), None)
    if found is None:
        raise BadInput(
            f"{file} needs the yaml that it was trained with, and there is no {configs[0]}; put it there, or name it: "
            f"taming:{file}:CONFIG.yaml."
        )
    return file, found


def read_layout(path: Path) -> VQGANLayout:
    """The layout in a yaml of taming-transformers. Raises BadInput for what it lacks and what is not supported."""
    yaml = imported("yaml", extra="diffusers")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise BadInput(f"{path} cannot be read as yaml: {reason}.") from error
    model = _part(content, "model", path)
    target = str(model.get("target", "")).rpartition(".")[2]
    if target not in TARGETS:
        raise BadInput(
            f"{path} must describe a VQ-GAN of taming-transformers ({' or '.join(TARGETS)}), got the target "
            f"{model.get('target')!r}."
        )
    params = _part(model, "params", path, "model")
    network = _part(params, "ddconfig", path, "model.params")
    _refuse_unknown_forms(network, params, path)
    where = "model.params.ddconfig"
    channels = _whole(network, "in_channels", path, where)
    out = _whole(network, "out_ch", path, where)
    if channels not in (1, 3) or out != channels:
        raise BadInput(f"{path}: in_channels and out_ch must both be 3, or both 1 (grey), got {channels} and {out}.")
    return VQGANLayout(
        target=target,
        channels=channels,
        width=_whole(network, "ch", path, where),
        multipliers=_numbers(network, "ch_mult", path, where, least=1),
        blocks=_whole(network, "num_res_blocks", path, where),
        attention=_numbers(network, "attn_resolutions", path, where, least=0),
        resolution=_whole(network, "resolution", path, where),
        latent=_whole(network, "z_channels", path, where),
        codes=_whole(params, "n_embed", path, "model.params"),
        length=_whole(params, "embed_dim", path, "model.params"),
    )


def _refuse_unknown_forms(network: Mapping[str, Any], params: Mapping[str, Any], path: Path) -> None:
    """Raises BadInput for options that would give the same keys another meaning."""
    if network.get("double_z") is not False:
        raise BadInput(
            f"{path}: double_z must be false, as in every VQ-GAN, got {network.get('double_z')!r} (load a KL "
            "autoencoder with diffusers:)."
        )
    if network.get("resamp_with_conv", True) is not True:
        raise BadInput(f"{path}: resamp_with_conv must be true, got {network['resamp_with_conv']!r}.")
    if params.get("remap") is not None:
        raise BadInput(f"{path}: remap must be absent (it is not supported), got {params['remap']!r}.")


def _part(content: Any, key: str, path: Path, where: str = "") -> Mapping[str, Any]:
    part = content.get(key) if isinstance(content, Mapping) else None
    if not isinstance(part, Mapping):
        name = f"{where}.{key}" if where else key
        raise BadInput(f"{path} has no section {name}; expected the yaml that the checkpoint was trained with.")
    return part


def _whole(part: Mapping[str, Any], key: str, path: Path, where: str) -> int:
    value = part.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        found = "is missing" if key not in part else f"is {value!r}"
        raise BadInput(f"{path}: {where}.{key} {found}; expected a whole number of at least 1.")
    return value


def _numbers(part: Mapping[str, Any], key: str, path: Path, where: str, *, least: int) -> tuple[int, ...]:
    value = part.get(key)
    whole = isinstance(value, list) and all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in value)
    if not isinstance(value, list) or not whole or len(value) < least:
        found = "is missing" if key not in part else f"is {value!r}"
        raise BadInput(f"{path}: {where}.{key} {found}; expected a list of whole numbers.")
    return tuple(value)


def _built(layout: VQGANLayout, config: Path) -> Any:
    """diffusers' VQModel, without its weights."""
    from diffusers import VQModel  # type: ignore[import-not-found, unused-ignore]

    levels = len(layout.multipliers)
    attentive = [layout.resolution // 2**level in layout.attention for level in range(levels)]
    try:
        model = VQModel(
            in_channels=layout.channels,
            out_channels=layout.channels,
            down_block_types=tuple("AttnDownEncoderBlock2D" if a else "DownEncoderBlock2D" for a in attentive),
            up_block_types=tuple("AttnUpDecoderBlock2D" if a else "UpDecoderBlock2D" for a in reversed(attentive)),
            block_out_channels=tuple(layout.width * m for m in layout.multipliers),
            layers_per_block=layout.blocks,
            latent_channels=layout.latent,
            sample_size=layout.resolution,
            num_vq_embeddings=layout.codes,
            vq_embed_dim=layout.length,
        )
    except ValueError as error:
        raise BadInput(f"{config} describes a network that cannot be built: {str(error).rstrip('.')}.") from error
    if layout.target == "GumbelVQ":
        model.quantize = LikeliestCodes(channels=layout.latent, codes=layout.codes, length=layout.length)
    return model


def _tensors(file: Path, *, trust: bool) -> dict[str, Tensor]:
    content = read_checkpoint(file, trust=trust)
    state = content.get("state_dict", content)
    return {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, Mapping) else {}


def converted(state: Mapping[str, Tensor], model: Any, *, file: Path, config: Path) -> dict[str, Tensor]:
    """The tensors of the checkpoint under the names that ``model`` (diffusers' VQModel) has for them.

    Keys ``loss.*`` are left out. Raises BadInput for keys that are missing, unexpected or of another shape.
    """
    expected = model.state_dict()
    levels = len(model.config.block_out_channels)
    names = {key: checkpoint_name(key, levels) for key in expected}
    missing = [n for n in names.values() if n not in state]
    extra = sorted(k for k in state.keys() - set(names.values()) if not k.startswith(IGNORED))
    if missing or extra:
        ignored = sum(k.startswith(IGNORED) for k in state)
        raise BadInput(
            f"{file} does not hold the network of {config}: missing {_some(missing)}; unexpected {_some(extra)}"
            f"{f' ({ignored} keys loss.* are ignored)' if ignored else ''}."
        )
    found = {key: state[name].float() for key, name in names.items()}
    for key, tensor in found.items():
        wanted = expected[key].shape
        if tensor.shape[: len(wanted)] != wanted or tensor.numel() != wanted.numel():  # a 1×1 convolution is a matrix
            raise BadInput(
                f"The tensor {names[key]} in {file} must have the shape {list(wanted)} by {config}, got "
                f"{list(tensor.shape)}; the yaml belongs to another checkpoint."
            )
        found[key] = tensor.reshape(wanted)
    return found


def checkpoint_name(key: str, levels: int) -> str:
    """How taming-transformers names the key of diffusers' VQModel of this many levels."""
    key = re.sub(r"^decoder\.up_blocks\.(\d+)\.", lambda m: f"decoder.up.{levels - 1 - int(m[1])}.", key)
    for pattern, replacement in RENAMED:
        key = re.sub(pattern, replacement, key)
    return key


def _attention(text: str) -> str:
    for ours, theirs in ((".group_norm.", ".norm."), (".to_out.0.", ".proj_out.")):
        text = text.replace(ours, theirs)
    return re.sub(r"\.to_([qkv])\.", r".\1.", text)


def _some(names: list[str], most: int = 3) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
