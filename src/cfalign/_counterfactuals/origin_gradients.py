"""Gradients at z0 of all pairs of some images: an image is decoded and scored once, however many bases it has.

The pairs of a block of images are taken in layers, each with one pair of an image at most. Images do not see each
other, so one backward pass of the sum over a layer gives the gradient of every pair in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from cfalign._counterfactuals.batch import Batch, Points, Rows, float64, gradient_at
from cfalign._heads.scoring import logits
from cfalign._models.passes import in_passes
from cfalign._results import Floats

LEAST = 0.5
"""Share of a block's images that a layer needs: below it, its pairs are cheaper one by one."""


def at_origins(batch: Batch, *, eligible: float | None = None) -> tuple[Tensor, Tensor]:
    """Value of the base of every pair at z0, [pair], and ∂value/∂z there, [pair, *latent].

    ``eligible``: pairs with a smaller score at z0 need no gradient; it is 0 where that saves a backward pass. Raises
    BadModel where no gradient flows.
    """
    count, latents = len(batch.pairs), batch.latents
    values = torch.zeros(count, dtype=torch.float64, device=latents.device)
    gradients = torch.zeros(count, *latents.shape[1:], dtype=latents.dtype, device=latents.device)
    by_image = _PairsOfImages.of(batch.pairs.image.numpy())

    def work(images: slice) -> list[Rows]:
        """Gradients of some images' pairs; the layers that are left for later."""
        block = by_image.block(images)
        if not block.worth_sharing:
            return block.layers
        shared = _Shared.of(batch, block.images)
        every = np.concatenate(block.layers)
        seen = shared.values(every).detach()
        values[torch.from_numpy(every).to(values.device)] = seen.to(values)
        wanted = every if eligible is None else every[~(shared.scores(every, seen) < eligible)]
        full, rest = by_image.block(images, of=wanted).layers_by_size()
        for number, rows in enumerate(full):
            index = torch.from_numpy(rows).to(latents.device)
            gradients[index] = shared.gradients(rows, last=number + 1 == len(full))
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
    """Pairs, of each image one at most; the fullest come first."""

    def layers_by_size(self) -> tuple[list[Rows], list[Rows]]:
        """The layers that are full enough to share a decoded block, and the others."""
        least = LEAST * len(self.images)
        full = [layer for layer in self.layers if len(layer) >= least]
        return full, self.layers[len(full) :]

    @property
    def worth_sharing(self) -> bool:
        """Whether more than one layer would share it."""
        return len(self.layers_by_size()[0]) > 1


@dataclass(frozen=True)
class _PairsOfImages:
    """Images in an order in which those with as many pairs stand together."""

    order: Rows
    pairs: dict[int, Rows]

    @classmethod
    def of(cls, image: Rows) -> _PairsOfImages:
        """From the image of every pair."""
        images, counts = np.unique(image, return_counts=True)
        parts = np.split(np.argsort(image, kind="stable"), np.cumsum(counts)[:-1])
        pairs = dict(zip(images.tolist(), parts, strict=False))  # without a pair there is one part, which is empty
        return cls(images[np.argsort(-counts, kind="stable")], pairs)

    def block(self, images: slice, *, of: Rows | None = None) -> _Block:
        """Some images of the order, with all of their pairs or those among ``of``."""
        some = np.sort(self.order[images])
        pairs = [self.pairs[i] for i in some.tolist()]
        if of is not None:
            pairs = [p[np.isin(p, of)] for p in pairs]
        depth = max(map(len, pairs), default=0)
        layers = [np.array([p[k] for p in pairs if len(p) > k], dtype=np.int64) for k in range(depth)]
        return _Block(some, layers)


@dataclass(frozen=True)
class _Shared:
    """Images that are decoded and scored once for all of their pairs."""

    batch: Batch
    images: Rows
    latents: Tensor
    answers: Tensor
    """Logits [image, head], through which gradients flow to the latents."""

    @classmethod
    def of(cls, batch: Batch, images: Rows) -> _Shared:
        """One decoder forward, and one of every classifier."""
        index = torch.from_numpy(images)
        latents = batch.latents[index.to(batch.latents.device)].detach().requires_grad_(True)
        points = Points(latents, index, batch.origins)
        drawn = points.images(torch.arange(len(images)), latents, batch.models.autoencoder)
        return cls(batch, images, latents, logits(drawn, batch.models.classifiers))

    def values(self, rows: Rows) -> Tensor:
        """The value of the base of each pair, [row]."""
        place = self._places(rows).to(self.answers.device)
        return self.batch.pairs.weights[torch.from_numpy(rows)].value(self.answers[place])

    def scores(self, rows: Rows, values: Tensor) -> Floats:
        """The scores of these values."""
        on_logit = self.batch.pairs.weights.on_logit.numpy()[rows]
        return np.where(on_logit, expit(float64(values)), float64(values))

    def gradients(self, rows: Rows, *, last: bool) -> Tensor:
        """∂value/∂z [row, *latent] of pairs of different images: one backward pass. ``last``: no other follows."""
        gradient = gradient_at(self.values(rows), self.latents, again=not last)
        return gradient[self._places(rows).to(gradient.device)]

    def _places(self, rows: Rows) -> Tensor:
        return torch.from_numpy(np.searchsorted(self.images, self.batch.pairs.image.numpy()[rows]))
