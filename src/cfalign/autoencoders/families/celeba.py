"""``celeba:faceshq``: the autoencoder of the paper, a VQ-GAN trained on CelebA-HQ and FFHQ, from the user's cache.

Its two files lie in ``~/.cache/cfalign``, or in the folder that the environment variable CFALIGN_CACHE names. The
module ``taming`` describes the network.
"""

from __future__ import annotations

from cfalign._errors import BadInput, nearest
from cfalign._models.downloads import located
from cfalign.autoencoders.families import taming
from cfalign.autoencoders.wrapped_autoencoder import WrappedAutoencoder

NAMES = ("faceshq",)


def load(name: str, *, trust: bool = False) -> WrappedAutoencoder:
    """The autoencoder of the paper.

    Raises BadInput for another name; where its files are missing, the message says where to get them.
    """
    if name not in NAMES:
        raise BadInput(f"There is no autoencoder celeba:{name}; {nearest(name, NAMES)}.")
    file, _ = located(name)
    found = taming.load(str(file), trust=trust)
    found.name = name
    return found
