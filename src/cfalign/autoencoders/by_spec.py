"""Autoencoders by spec: a name, a file, a factory, or a family with a name."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

from cfalign._errors import BadInput
from cfalign._models.factories import call_factory, is_factory
from cfalign._types import Autoencoder
from cfalign.autoencoders.trained import EMBEDDED, from_weights
from cfalign.autoencoders.wrapped_autoencoder import WrappedAutoencoder, wrap

FAMILIES = ("taming", "diffusers", "taesd", "xrv", "celeba")
"""What stands before the colon of ``FAMILY:NAME``; the module of this name in ``families`` loads the rest."""


def load(spec: str | os.PathLike[str], *, trust: bool = False) -> Autoencoder:
    """The autoencoder that ``spec`` names, with images in [0, 1].

    ========================================  ==================================================================
    ``embedded``                              the one that is shipped, for the synthetic faces (64 px)
    a ``.safetensors`` file or its folder     from ``cfalign train autoencoder``
    ``path/to/file.py:factory``               what the factory returns: any object with ``encode`` and ``decode``
    ``FAMILY:NAME``                           ``taming:``, ``diffusers:``, ``taesd:``, ``xrv:``, ``celeba:``; the
                                              module of each family in ``autoencoders.families`` describes NAME
    ========================================  ==================================================================

    ``trust``: whether a weight file may run code while it is read (a pickle). Without it such a file is refused.

    Raises BadInput for an unknown spec, and for a model that is missing, damaged or needs an extra that is not
    installed.

    >>> autoencoder = cfa.autoencoders.load("embedded")
    >>> images = cfa.synthetic.render(cfa.synthetic.sample(2, seed=0))
    >>> latents = autoencoder.encode(images)
    >>> latents.shape, autoencoder.decode(latents).shape
    (torch.Size([2, 128]), torch.Size([2, 3, 64, 64]))
    """
    spec = os.fspath(spec)
    if spec == "embedded":
        return from_weights(EMBEDDED, name="embedded", residual="dropped")
    if is_factory(spec):
        return _from_factory(spec)
    family, colon, name = spec.partition(":")
    if colon and family in FAMILIES:
        found: Autoencoder = import_module(f"{__package__}.families.{family}").load(name, trust=trust)
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


def _from_factory(spec: str) -> WrappedAutoencoder:
    made = call_factory(spec)
    if not isinstance(made, Autoencoder):
        raise BadInput(
            f"The factory {spec} must return an object with the methods encode and decode, got {type(made).__name__}."
        )
    if isinstance(made, WrappedAutoencoder):
        return made
    return wrap(made, size=getattr(made, "size", None), name=str(getattr(made, "name", type(made).__name__)))
