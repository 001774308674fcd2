"""``taesd:FOLDER`` or ``taesd:ENCODER:DECODER``: tiny autoencoders of the TAESD family from their weight files.

A folder holds one file with "encoder" and one with "decoder" in its name (.pth or .safetensors). The layout is read
from the weights: latent channels, widths, group-norm branches, and the published f8 and f32 layouts. Images range over
[0, 1]; z [n, channel, h, w] is the raw latent. The network is convolutional and has no size of its own: ``size`` is
None, and images keep theirs.

Source: Ollin Boer Bohan, "TAESD: Tiny AutoEncoder for Stable Diffusion". The layers are written from its published
layout: residual blocks of three 3×3 convolutions with ReLU; strided convolutions halve and nearest-neighbour steps
double, each without bias; latents are squashed by 3·tanh(z/3); blocks in the middle have a 1×1 group-norm branch.

Why not diffusers' AutoencoderTiny: its blocks have no such branch (as of diffusers 0.42), so it cannot hold the newer
members of the family (TAEF2), and this family needs no extra.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cfalign._errors import BadInput
from cfalign._models.weights import load_into, read_checkpoint
from cfalign.autoencoders.wrapped_autoencoder import WrappedAutoencoder, wrap

SUFFIXES = (".pth", ".pt", ".safetensors")
Shapes = Mapping[str, torch.Size]


class Block(nn.Module):
    """relu(three convolutions of x + x), where x may first gain what a group-normalised 1×1 branch adds."""

    def __init__(self, before: int, after: int, *, branch: int | None = None, skip: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1),
        )
        self.skip = nn.Conv2d(before, after, 1, bias=False) if skip else nn.Identity()
        if branch is not None:
            self.pool = nn.Sequential(
                nn.Conv2d(before, branch, 1, bias=False),
                nn.GroupNorm(4, branch),
                nn.ReLU(),
                nn.Conv2d(branch, before, 1, bias=False),
            )
        self.branched = branch is not None

    def forward(self, features: Tensor) -> Tensor:
        """Features [n, before, h, w] to [n, after, h, w]."""
        if self.branched:
            features = features + self.pool(features)
        return torch.relu(self.conv(features) + self.skip(features))


class Squash(nn.Module):
    """3·tanh(z/3)."""

    def forward(self, latents: Tensor) -> Tensor:
        """Latents in (−3, 3)."""
        return 3 * torch.tanh(latents / 3)


class TinyAutoencoder(nn.Module):
    """Encoder and decoder of the family; images in [0, 1]."""

    def __init__(self, encoder: nn.Sequential, decoder: nn.Sequential) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def encode(self, images: Tensor) -> Tensor:
        """Raw latents."""
        latents: Tensor = self.encoder(images)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Images, clipped to [0, 1]."""
        images: Tensor = self.decoder(latents)
        return images.clamp(0, 1)


def load(name: str, *, trust: bool = False) -> WrappedAutoencoder:
    """The tiny autoencoder in these files. Raises BadInput when one is missing, unsafe, damaged or misshapen."""
    files = _files(name)
    states = [_state(read_checkpoint(file, trust=trust), role) for file, role in zip(files, ROLES, strict=True)]
    encoder, decoder = (_network(s, f, r) for s, f, r in zip(states, files, ROLES, strict=True))
    given, wanted = _ends(states[0])[1], _ends(states[1])[0]
    if given != wanted:
        raise BadInput(f"{files[0]} makes latents of {given} channels, but {files[1]} takes {wanted}.")
    channels = _ends(states[0])[0]
    if channels != 3 or _ends(states[1])[1] != 3:
        raise BadInput(f"{name} must map 3 channels (colour) to 3, got {channels} to {_ends(states[1])[1]}.")
    down, up = _halvings(encoder), sum(isinstance(layer, nn.Upsample) for layer in decoder)
    if down != up:
        raise BadInput(f"{files[0]} halves images {down} times, but {files[1]} doubles them {up} times.")
    network = TinyAutoencoder(encoder, decoder).eval()
    label = files[0].parent.resolve().name if files[0].parent == files[1].parent else files[0].stem
    return wrap(network, stride=2**down, name=label)


ROLES = ("encoder", "decoder")


def _files(name: str) -> tuple[Path, Path]:
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return _of_role(folder, "encoder"), _of_role(folder, "decoder")
    first, colon, second = name.partition(":")
    if not colon or not first or not second:
        raise BadInput(
            f"There is no folder {name!r}; expected taesd:FOLDER with an encoder and a decoder file, or "
            "taesd:ENCODER:DECODER."
        )
    return Path(first).expanduser(), Path(second).expanduser()


def _of_role(folder: Path, role: str) -> Path:
    files = sorted(p for p in folder.iterdir() if role in p.name.lower() and p.suffix in SUFFIXES)
    if len(files) != 1:
        found = "there is none" if not files else "there are " + ", ".join(p.name for p in files)
        raise BadInput(
            f'The folder {folder} must hold one file with "{role}" in its name ({", ".join(SUFFIXES)}); {found}.'
        )
    return files[0]


def _state(content: Mapping[str, object], role: str) -> dict[str, Tensor]:
    """The tensors of one side by their published names: without prefixes, and with the published numbers."""
    tensors = {k: v.float() for k, v in content.items() if isinstance(v, Tensor)}
    prefix = re.compile(rf"^(?:taesd_)?{role}\.(?:layers\.)?")
    state = {prefix.sub("", k): v for k, v in tensors.items()}
    if role == "decoder" and "0.weight" in state:  # diffusers does not count the squashing of latents as a layer
        return {re.sub(r"^\d+", lambda m: str(int(m[0]) + 1), k): v for k, v in state.items()}
    return state


def _network(state: Mapping[str, Tensor], file: Path, role: str) -> nn.Sequential:
    layers: dict[int, dict[str, torch.Size]] = defaultdict(dict)
    for key, tensor in state.items():
        number, _, rest = key.partition(".")
        if not number.isdigit():
            raise BadInput(f"{file} has the key {key!r}; expected the numbered layers of a TAESD {role}.")
        layers[int(number)][rest] = tensor.shape
    if not layers or max(layers) > 1000:
        raise BadInput(f"{file} has no numbered layers; expected the weights of a TAESD {role}.")
    try:
        build = _encoder_layer if role == "encoder" else _decoder_layer
        network = nn.Sequential(*(build(layers, i) for i in range(max(layers) + 1)))
    except (KeyError, IndexError, ValueError) as error:
        raise BadInput(f"{file} does not have the layout of a TAESD {role}: it lacks {error}.") from error
    load_into(network, state, file)
    return network


def _encoder_layer(layers: Mapping[int, Shapes], i: int) -> nn.Module:
    if i not in layers:
        return nn.ReLU()  # only the stem of the f32 layout has these, after its strided convolutions
    shapes = layers[i]
    if "conv.0.weight" in shapes:
        return _block(shapes)
    strided = "bias" not in shapes or (i + 1 not in layers and i < max(layers))
    return _convolution(shapes, stride=2 if strided else 1)


def _decoder_layer(layers: Mapping[int, Shapes], i: int) -> nn.Module:
    if i not in layers:
        first = min(layers)
        return Squash() if i < first else nn.ReLU() if i == first + 1 else nn.Upsample(scale_factor=2)
    return _block(layers[i]) if "conv.0.weight" in layers[i] else _convolution(layers[i], stride=1)


def _convolution(shapes: Shapes, *, stride: int) -> nn.Conv2d:
    after, before = shapes["weight"][:2]
    return nn.Conv2d(before, after, 3, stride=stride, padding=1, bias="bias" in shapes)


def _block(shapes: Shapes) -> Block:
    after, before = shapes["conv.0.weight"][:2]
    branch = shapes["pool.0.weight"][0] if "pool.0.weight" in shapes else None
    return Block(before, after, branch=branch, skip="skip.weight" in shapes)


def _halvings(encoder: nn.Sequential) -> int:
    return sum(isinstance(layer, nn.Conv2d) and layer.stride == (2, 2) for layer in encoder)


def _ends(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Channels that go in and come out."""
    weights = sorted((int(k.partition(".")[0]), v) for k, v in state.items() if re.fullmatch(r"\d+\.weight", k))
    return weights[0][1].shape[1], weights[-1][1].shape[0]
