"""Gradients at z0 of all pairs of some images: an image is decoded and scored once, however many bases it has.

The pairs of a block of images are taken in layers, each with one pair of an image at most. Images do not see each
other, so one backward pass of the sum over a layer gives the gradient of every pair in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cfalign._counterfactuals.batch import Batch, Points, Rows, gradient_at
from cfalign._heads.scoring import logits
from cfalign._models.passes import in_passes

LEAST = 0.5
"""Share of a block's images that a layer needs: below it, its pairs are cheaper one by one."""


def at_origins(batch: Batch) -> tuple[Tensor, Tensor]:
    """Value of the base of every pair at z0, [pair], and ∂value/∂z there, [pair, *latent].

    Raises BadModel where no gradient flows.
    """
    count, latents = len(batch.pairs), batch.latents
    values = torch.zeros(count, dtype=torch.float64, device=latents.device)
    gradients = torch.zeros(count, *latents.shape[1:], dtype=latents.dtype, device=latents.device)
    by_image = _PairsOfImages.of(batch.pairs.image.numpy())

    def work(images: slice) -> list[Rows]:
        """Gradients of some images' pairs; the layers that are left for later."""
        block = by_image.block(images)
        shared, rest = block.worth_sharing()
        for rows, value, gradient in _shared(batch, block.images, shared):
            index = torch.from_numpy(rows).to(latents.device)
            values[index], gradients[index] = value.to(values), gradient
        return rest

    parts = in_passes(work, len(by_image.order), most=batch.models.batch, kind="gradient")
    alone = [rows for rest in parts for rows in rest]
    if alone:
        rows = np.sort(np.concatenate(alone))
        index = torch.from_numpy(rows).to(latents.device)
        seen = batch.evaluate(rows, batch.origin[index], gradient=True)
        values[index], gradients[index] = seen.values.to(values), seen.gradients
    return values, gradients


@dataclass(frozen=True)
class _Block:
    images: Rows
    layers: list[Rows]
    """Pairs, of each image one at most."""

    def worth_sharing(self) -> tuple[list[Rows], list[Rows]]:
        """The layers that share a decoded block, and those whose pairs are decoded on their own."""
        least = LEAST * len(self.images)
        full = [layer for layer in self.layers if len(layer) >= least]
        return (full, self.layers[len(full) :]) if len(full) > 1 else ([], self.layers)


@dataclass(frozen=True)
class _PairsOfImages:
    """Images in an order in which those with as many pairs stand together; the fullest layers come first."""

    order: Rows
    pairs: dict[int, Rows]

    @classmethod
    def of(cls, image: Rows) -> _PairsOfImages:
        """From the image of every pair."""
        images, counts = np.unique(image, return_counts=True)
        parts = np.split(np.argsort(image, kind="stable"), np.cumsum(counts)[:-1])
        pairs = dict(zip(images.tolist(), parts, strict=False))  # without a pair there is one part, which is empty
        return cls(images[np.argsort(-counts, kind="stable")], pairs)

    def block(self, images: slice) -> _Block:
        """Some images of the order."""
        some = np.sort(self.order[images])
        pairs = [self.pairs[i] for i in some.tolist()]
        depth = max(map(len, pairs), default=0)
        layers = [np.array([p[k] for p in pairs if len(p) > k], dtype=np.int64) for k in range(depth)]
        return _Block(some, layers)


def _shared(batch: Batch, images: Rows, layers: list[Rows]) -> Iterator[tuple[Rows, Tensor, Tensor]]:
    """(pairs of a layer, their values, their gradients), from one decoder forward for all layers."""
    if not layers:
        return
    index = torch.from_numpy(images)
    latents = batch.latents[index.to(batch.latents.device)].detach().requires_grad_(True)
    points = Points(latents, index, batch.origins)
    drawn = points.images(torch.arange(len(images)), latents, batch.models.autoencoder)
    answers = logits(drawn, batch.models.classifiers)
    for number, rows in enumerate(layers):
        place = torch.from_numpy(np.searchsorted(images, batch.pairs.image.numpy()[rows]))
        value = batch.pairs.weights[torch.from_numpy(rows)].value(answers[place.to(answers.device)])
        gradient = gradient_at(value, latents, again=number + 1 < len(layers))
        yield rows, value.detach(), gradient[place.to(gradient.device)]
