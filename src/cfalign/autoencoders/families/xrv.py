"""``xrv:NAME`` or ``xrv:FILE``: the ResNetAE of torchxrayvision, for chest radiographs.

Needs the extra ``xrv``. NAME is one that torchxrayvision publishes (``101-elastic``) and downloads; FILE is a state
dict of ResNetAE50 or ResNetAE101. It works on grey images of 224×224 in [−1024, 1024] and on no other size. Images of
three channels are averaged before encoding, and the decoded grey is repeated in each channel.

Source: Cohen et al., "TorchXRayVision: A library of chest X-ray datasets and models", 2021.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cfalign._errors import BadInput, nearest
from cfalign._models.extras import imported
from cfalign._models.guard import described
from cfalign._models.weights import load_into, read_checkpoint
from cfalign.autoencoders.wrapped_autoencoder import WrappedAutoencoder, wrap

SIZE, BRIGHTEST = 224, 1024.0


class Radiographs(nn.Module):
    """A ResNetAE; images [n, 1, 224, 224] in [−1024, 1024], latents [n, 512, 3, 3]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def encode(self, images: Tensor) -> Tensor:
        """Latents."""
        if images.shape[-2:] != (SIZE, SIZE):
            height, width = images.shape[-2:]
            raise BadInput(f"The ResNetAE needs images of {SIZE}x{SIZE}, got {width}x{height}; resize them.")
        latents: Tensor = self.model.encode(images)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Images, clipped to [−1024, 1024]."""
        images: Tensor = self.model.decode(latents, [len(latents), 1, SIZE, SIZE])
        return images.clamp(-BRIGHTEST, BRIGHTEST)


def load(name: str, *, trust: bool = False) -> WrappedAutoencoder:
    """The ResNetAE of this name or file. Raises BadInput for an unknown name, a failed download or a misfit file."""
    library = imported("torchxrayvision", extra="xrv").autoencoders
    file = Path(name).expanduser()
    if name in library.model_urls:
        model, label = _published(library, name), f"resnetae-{name}"
    elif file.is_file():
        model, label = _of_file(library, file, trust=trust), file.stem
    else:
        raise BadInput(
            f"There is no file {name!r}, and torchxrayvision has no ResNetAE of this name; "
            f"{nearest(name, library.model_urls)}."
        )
    network = Radiographs(model).eval().requires_grad_(False)
    return wrap(network, size=SIZE, value_range=(-BRIGHTEST, BRIGHTEST), grey=True, name=label)


def _published(library: Any, name: str) -> Any:
    try:
        with redirect_stdout(sys.stderr):  # the library prints its progress
            return library.ResNetAE(weights=name)
    except Exception as error:  # the network and truncated files raise many types
        raise BadInput(
            f"The ResNetAE {name!r} cannot be downloaded ({described(error)}); without a network, get "
            f"{library.model_urls[name]['weights_url']} elsewhere and give xrv:FILE."
        ) from error


def _of_file(library: Any, file: Path, *, trust: bool) -> Any:
    content = read_checkpoint(file, trust=trust)
    inner = content.get("state_dict", content)
    state = {k: v.float() if v.is_floating_point() else v for k, v in inner.items() if isinstance(v, Tensor)}
    deep = any(k.startswith("layer3.6.") for k in state)  # 23 blocks there, ResNetAE50 has 6
    model = library.ResNetAE101() if deep else library.ResNetAE50()
    load_into(model, state, file)
    model.weights = None  # its repr asks for the name
    return model
