"""An autoencoder that knows how images of one kind differ, and how their latents do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from cfalign._errors import BadInput
from cfalign._models.autoencoding import encoded
from cfalign._models.components import Components, Parts, principal_components
from cfalign._models.guard import device_of, undisturbed
from cfalign._types import Autoencoder

Loads = Callable[[], Iterator[Tensor]]
"""All images of a sample, in parts [k, c, h, w]; called once for every pass."""
WALKED, CAPPED = 64, 8
"""Components of the metric of the data, and the strongest of them that count as no wider than the next one."""
PICTURES = 512
LEAST = 64
"""Images, and mirror images of them, that tell components at least."""
VALUES = 2**26
"""Values of latents kept in memory: a sample has no more."""


class InformedAutoencoder:
    """An autoencoder with the principal components of images (``pictures``) and of their latents (``metric``)."""

    def __init__(
        self, autoencoder: Autoencoder, *, pictures: Components | None = None, metric: Components | None = None
    ) -> None:
        self.autoencoder = autoencoder
        self.pictures = pictures if pictures is not None else getattr(autoencoder, "pictures", None)
        self.metric = metric if metric is not None else getattr(autoencoder, "metric", None)

    def __repr__(self) -> str:
        return f"InformedAutoencoder({self.autoencoder!r})"

    def __getattr__(self, name: str) -> Any:
        if name == "autoencoder":  # not set yet, as while unpickling
            raise AttributeError(name)
        return getattr(self.autoencoder, name)

    def encode(self, images: Tensor, /) -> Tensor:
        """Images [n, c, h, w] in [0, 1] to latents [n, ...]."""
        return self.autoencoder.encode(images)

    def decode(self, latents: Tensor, /) -> Tensor:
        """Latents [n, ...] to images [n, c, h, w]."""
        return self.autoencoder.decode(latents)


def informed(
    autoencoder: Autoencoder, images: Tensor, *, pictures: bool = True, metric: bool = True, mirrored: bool = True
) -> InformedAutoencoder:
    """The autoencoder with what images [n, c, h, w] of one kind, 64 at least, tell of themselves and of their latents.

    ``pictures``: their principal components, with which the method ``completion`` fills regions. ``metric``: those of
    their latents, in which ``search.metric = "data"`` walks. ``mirrored``: mirror images count too; turn it off where
    left and right differ. Raises BadInput for too few images.

    >>> x = cfa.synthetic.render(cfa.synthetic.sample(64, seed=0))
    >>> ae = cfa.autoencoders.informed(cfa.autoencoders.load("embedded"), x)
    >>> len(ae.pictures), len(ae.metric)
    (16, 16)
    """
    with undisturbed(autoencoder):
        known = components_of_images(lambda: iter(images.split(64)), len(images), mirrored) if pictures else None
        walked = components_of_latents(autoencoder, iter(images.split(64)), mirrored) if metric else None
    return InformedAutoencoder(autoencoder, pictures=known, metric=walked)


def components_of_images(loads: Loads, images: int, mirrored: bool = True) -> Components:
    """Principal components of a sample of so many images."""
    _enough(images)
    values = next(loads())[0].numel()

    def parts() -> Iterator[Tensor]:
        return (view.flatten(1).cpu().float() for part in loads() for view in _views(part, mirrored))

    return _components(parts, images * (1 + mirrored), values, PICTURES)


def components_of_latents(autoencoder: Autoencoder, loads: Iterator[Tensor], mirrored: bool = True) -> Components:
    """Principal components of the latents of a sample of images, the strongest capped: the metric of the data."""
    kept: list[Tensor] = []
    device = device_of(autoencoder)
    for part in loads:
        kept += [encoded(autoencoder, view.to(device)).flatten(1).cpu().float() for view in _views(part, mirrored)]
        if sum(latents.numel() for latents in kept) > VALUES:
            break
    vectors = sum(map(len, kept))
    _enough(vectors // (1 + mirrored))
    return _components(lambda: iter(kept), vectors, kept[0].shape[1], WALKED).capped(CAPPED)


def _views(images: Tensor, mirrored: bool) -> list[Tensor]:
    return [images, images.flip(3)] if mirrored else [images]


def _enough(images: int) -> None:
    if images < LEAST:
        raise BadInput(f"{images} images tell too little of how images differ; expected at least {LEAST}.")


def _components(parts: Parts, vectors: int, values: int, most: int) -> Components:
    count = min(most, vectors // 8, values)
    draw = torch.Generator().manual_seed(0)
    return principal_components(parts, vectors=vectors, values=values, count=count, generator=draw)
