"""Autoencoders: counterfactuals are made in their latent space.

    autoencoder = load("embedded")          # by spec: a name, a file, a factory, FAMILY:NAME
    autoencoder = wrap(my_vae, size=128)    # any object with encode and decode

======================  ====================================================================================
``by_spec``             ``load``
``wrapped_autoencoder`` ``wrap``, and ``WrappedAutoencoder``, which it returns
``trained``             weight files of ``cfalign train autoencoder``, and the embedded one
``components``          the architecture without training steps: principal components
``convolutional``       the architecture that is trained
``informed_autoencoder`` one that images have told how they differ
``families``            one module per family of ``FAMILY:NAME``
======================  ====================================================================================

docs/autoencoders.md compares them and says which to take.
"""

from cfalign.autoencoders.by_spec import load
from cfalign.autoencoders.informed_autoencoder import InformedAutoencoder, informed
from cfalign.autoencoders.wrapped_autoencoder import WrappedAutoencoder, side_of, wrap

__all__ = ["InformedAutoencoder", "WrappedAutoencoder", "informed", "load", "side_of", "wrap"]
