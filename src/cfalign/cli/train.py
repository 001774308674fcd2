"""``cfalign train``: the two models that an audit needs, from the user's own images."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Train an autoencoder or an attribute classifier on a folder of images.")
