"""Autoencoders that cfalign trained: their weight files, the embedded one among them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cfalign._errors import BadInput
from cfalign._models.weights import built, load_into, read_weights
from cfalign._types import Residual
from cfalign.autoencoders.components import ComponentAutoencoder
from cfalign.autoencoders.convolutional import VectorAutoencoder
from cfalign.autoencoders.wrapped_autoencoder import WrappedAutoencoder, wrap

EMBEDDED = Path(__file__).parent / "embedded.safetensors"


def from_weights(path: Path, *, name: str, residual: Residual | None = None) -> WrappedAutoencoder:
    """A trained autoencoder from its weight file. Raises BadInput for a file that is missing, damaged or of another
    kind.
    """
    state, config = read_weights(path, kind="autoencoder")
    if "scale" in state:
        state.setdefault("deviations", state["scale"])  # older files do not tell them
    network = built(build, config, path)
    load_into(network, state, path)
    return wrap(network, size=network.size, name=name, residual=residual)


def build(config: dict[str, Any]) -> VectorAutoencoder | ComponentAutoencoder:
    """The network that the configuration in a weight file describes, without its weights.

    Raises BadInput, ValueError or KeyError for a configuration that describes none.
    """
    architecture = config.get("architecture", "convolutional")  # the oldest files do not name it
    if architecture == "components":
        keys = ("size", "channels", "latent", *(["components"] if "components" in config else []))
        return ComponentAutoencoder(**{key: config[key] for key in keys})
    if architecture != "convolutional":
        raise BadInput(f"unknown architecture {architecture!r}")
    return VectorAutoencoder(**{key: config[key] for key in ("size", "channels", "latent", "encoder", "decoder")})
