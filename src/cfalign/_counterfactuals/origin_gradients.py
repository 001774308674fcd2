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

LEAST = 0.5
"""Share of a block's images that a layer needs: below it, its pairs are cheaper one by one."""


def at_origins(batch: Batch) -> tuple[Tensor, Tensor]:
    """Value of the base of every pair at z0, [pair], and ∂value/∂z there, [pair, *latent].

    Raises BadModel where no gradient flows.
    """
    count, latents = len(batch.pairs), batch.latents
    values = torch.zeros(count, dtype=torch.float64, device=latents.device)
    gradients = torch.zeros(count, *latents.shape[1:], dtype=latents.dtype, device=latents.device)
    alone: list[Rows] = []
    for block in _blocks(batch.pairs.image.numpy(), batch.models.batch):
        shared, rest = block.worth_sharing()
        alone += rest
        for rows, value, gradient in _shared(batch, block.images, shared):
            index = torch.from_numpy(rows).to(latents.device)
            values[index], gradients[index] = value.to(values), gradient
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


def _blocks(image: Rows, most: int) -> Iterator[_Block]:
    """Blocks of at most ``most`` images, those with as many pairs together; the fullest layers come first."""
    images, counts = np.unique(image, return_counts=True)
    order = images[np.argsort(-counts, kind="stable")]
    by_image = np.argsort(image, kind="stable")
    starts = dict(zip(images.tolist(), np.cumsum(counts) - counts, strict=True))
    ends = dict(zip(images.tolist(), np.cumsum(counts), strict=True))
    for at in range(0, len(order), most):
        some = np.sort(order[at : at + most])
        pairs = [by_image[starts[i] : ends[i]] for i in some.tolist()]
        depth = max(map(len, pairs))
        layers = [np.array([p[k] for p in pairs if len(p) > k], dtype=np.int64) for k in range(depth)]
        yield _Block(some, layers)


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
