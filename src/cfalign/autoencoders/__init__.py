"""Autoencoders, whose latent space is the plane that counterfactuals move in.

``loading`` by spec · ``wrapped`` any object with encode and decode · ``network`` the one cfalign trains, see README.md
"""

from cfalign.autoencoders.loading import load
from cfalign.autoencoders.wrapped import WrappedAutoencoder, wrap

__all__ = ["WrappedAutoencoder", "load", "wrap"]
