"""Autoencoders, whose latent space is the plane that counterfactuals move in.

``loading`` by spec · ``wrapped`` any object with encode and decode · the two that cfalign makes, see README.md:
``components`` without training steps, ``network`` with.
"""

from cfalign.autoencoders.loading import load
from cfalign.autoencoders.wrapped import WrappedAutoencoder, wrap

__all__ = ["WrappedAutoencoder", "load", "wrap"]
