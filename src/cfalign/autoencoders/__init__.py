"""Autoencoders, whose latent space is the plane that counterfactuals move in.

``loading`` by spec · ``wrapped`` any object with encode and decode · the two that cfalign makes, see README.md:
``components`` without training steps, ``network`` with · one module per family of ``FAMILY:NAME``: ``taming`` (and
``celeba``, the paper's), ``diffusers``, ``taesd``, ``xrv``; ``quantised`` is what VQ models share.
"""

from cfalign.autoencoders.by_spec import load
from cfalign.autoencoders.wrapped_autoencoder import WrappedAutoencoder, side_of, wrap

__all__ = ["WrappedAutoencoder", "load", "side_of", "wrap"]
