"""Autoencoders by spec: ``embedded``, a weight file from ``cfalign train autoencoder``, ``path/to/file.py:factory``, or
``FAMILY:NAME``, told by the module of the family.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from cfalign._errors import BadInput
from cfalign._models.factories import call_factory, is_factory
from cfalign._models.weights import built, load_into, read_weights
from cfalign._types import Autoencoder
from cfalign.autoencoders.convolutional import build
from cfalign.autoencoders.wrapped_autoencoder import WrappedAutoencoder, wrap

EMBEDDED = Path(__file__).parent / "embedded.safetensors"
FAMILIES: Mapping[str, str] = {
    "taming": "taming", "diffusers": "diffusers", "taesd": "taesd", "xrv": "xrv", "celeba": "celeba",
}  # fmt: skip
"""Spec ``FAMILY:NAME`` → the module of this package whose ``load(name, trust=…)`` makes the autoencoder."""


def load(spec: str, *, trust: bool = False) -> Autoencoder:
    """The autoencoder that ``spec`` names; BadInput when it cannot be had.

    ``trust``: whether a file may run code when it is read (a pickle). Off, such a file is refused.
    """
    if spec == "embedded":
        return from_weights(EMBEDDED, name="embedded")
    if is_factory(spec):
        made = call_factory(spec)
        if not isinstance(made, Autoencoder):
            raise BadInput(f"{spec} gave {type(made).__name__}; expected an object with the methods encode and decode.")
        if isinstance(made, WrappedAutoencoder):
            return made
        return wrap(made, size=getattr(made, "size", None), name=str(getattr(made, "name", type(made).__name__)))
    family, colon, name = spec.partition(":")
    if colon and family in FAMILIES:
        found: Autoencoder = import_module(f"{__package__}.families.{FAMILIES[family]}").load(name, trust=trust)
        return found
    path = Path(spec)
    if path.is_dir():
        path = path / "autoencoder.safetensors"
    if path.suffix == ".safetensors":
        return from_weights(path, name=path.resolve().parent.name if path.stem == "autoencoder" else path.stem)
    raise BadInput(
        f"Unknown autoencoder {spec!r}; expected embedded, a .safetensors file or folder from "
        f"`cfalign train autoencoder`, path/to/file.py:factory, or FAMILY:NAME ({', '.join(FAMILIES)})."
    )


def from_weights(path: Path, *, name: str) -> WrappedAutoencoder:
    """A trained autoencoder from its weight file."""
    state, config = read_weights(path, kind="autoencoder")
    network = built(build, config, path)
    load_into(network, state, path)
    return wrap(network, size=network.size, name=name)
