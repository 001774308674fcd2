"""``celeba:faceshq``: the autoencoder of the paper, a VQ-GAN trained on CelebA-HQ and FFHQ, from the user's cache.

Its two files lie in ``~/.cache/cfalign``, or in the folder that the environment variable CFALIGN_CACHE names. See
``cfalign.autoencoders.taming`` for what it is and does.
"""

from __future__ import annotations

import os
from pathlib import Path

from cfalign.autoencoders import taming
from cfalign.autoencoders.wrapped import WrappedAutoencoder
from cfalign.errors import BadInput, nearest

FILES = {"faceshq": "2020-11-13T21-41-45_faceshq.pth"}
RELEASE = "github.com/ieee8023/latentshift, release tag weights"


def load(name: str, *, trust: bool = False) -> WrappedAutoencoder:
    """The paper's autoencoder; BadInput when the name is another, or tells where to get a file that is not there."""
    if name not in FILES:
        raise BadInput(f"No autoencoder celeba:{name}; {nearest(name, FILES)}.")
    file = cache_folder() / FILES[name]
    for needed in (file, file.with_suffix(".yaml")):
        if not needed.is_file():
            raise BadInput(
                f"celeba:{name} needs the file {needed.name}, which is not in {needed.parent}: `cfalign models fetch "
                f"{name}` gets it, or take it from {RELEASE}, and put it there."
            )
    found = taming.load(str(file), trust=trust)
    found.name = name
    return found


def cache_folder() -> Path:
    """Where files that were fetched lie."""
    return Path(os.environ.get("CFALIGN_CACHE") or "~/.cache/cfalign").expanduser()
