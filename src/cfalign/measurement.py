"""One chunk of images, measured: reconstruct, walk every pair's ray, let every classifier look, and control.

The cost: one encode and one decode per image, shared by all bases; per counterfactual one decoder forward with its
backward for the direction, k forwards for the search, and one for the control.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfalign.composition import Panel, weights
from cfalign.errors import BadModel
from cfalign.latent_shift import Pairs, decode, find_rays, lambdas, reconstruct, shifted, walk
from cfalign.responses import respond
from cfalign.results import Floats, Outcome
from cfalign.search import SearchOptions
from cfalign.statistics import generator
from cfalign.types import Autoencoder

POOL_BYTES = 128 * 2**20  # images of one pool of pairs; the search holds about four times this


@dataclass(frozen=True)
class Walked:
    """Some (image, base) pairs after their walk, [pair, ...]."""

    image: NDArray[np.int64]
    base: NDArray[np.int64]
    outcomes: tuple[Outcome, ...]
    lambdas: Floats
    distances: Floats
    evaluations: NDArray[np.int64]
    image_change: Floats
    after: Floats
    """Panel scores at x_λ, [pair, column]; NaN where there is no counterfactual."""
    null: Floats
    """Panel scores at the same latent distance in a random direction."""
    counterfactuals: Tensor
    nulls: Tensor

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class Seen:
    """A chunk of images before any walk."""

    latents: Tensor
    reconstructions: Tensor
    image_scores: Floats
    """Panel scores on x, [image, column]."""
    reconstruction_scores: Floats
    """Panel scores on x0."""


@torch.no_grad()
def look(images: Tensor, panel: Panel, *, autoencoder: Autoencoder, batch: int = 64) -> Seen:
    """Encode, decode and score a chunk of images [n, c, h, w] in [0, 1].

    Raises BadModel when a classifier returns NaN or infinity for every image.
    """
    parts = [reconstruct(part, autoencoder) for part in torch.split(images, batch)]
    latents, x0 = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    on_images = panel.scores(respond(images, panel.classifiers, batch=batch))
    on_x0 = panel.scores(respond(x0, panel.classifiers, batch=batch))
    for scores in (on_images, on_x0):
        broken = [panel.labels[column] for column in np.flatnonzero(np.isnan(scores).all(axis=0))]
        if len(images) and broken:
            raise BadModel(
                f"The classifier's head {broken[0]!r} returned NaN or infinity for all of {len(images)} images; "
                "expected finite logits: check its normalisation and weights."
            )
    return Seen(latents, x0, on_images, on_x0)


def examined(eligible: NDArray[np.bool_], remaining: Sequence[int]) -> NDArray[np.bool_]:
    """Which (image, base) pairs are looked at: every image in order until a base has its number of eligible ones."""
    before: NDArray[np.int64] = np.cumsum(eligible, axis=0) - eligible
    return np.asarray(before < np.asarray(remaining)[None, :])


def walk_all(
    seen: Seen,
    chosen: Sequence[tuple[int, int]],
    *,
    panel: Panel,
    bases: Sequence[str],
    image_ids: Sequence[str],
    autoencoder: Autoencoder,
    settings: WalkSettings,
) -> Iterator[Walked]:
    """Counterfactuals of the chosen (image, base) pairs, in pools of bounded memory, grouped by the modules needed."""
    groups: dict[tuple[object, ...], list[tuple[int, int]]] = {}
    for image, base in chosen:
        groups.setdefault(panel[bases[base]].classifiers, []).append((image, base))
    pool = max(settings.batch, POOL_BYTES // max(1, 4 * seen.reconstructions[:1].numel()))
    for group in groups.values():
        for at in range(0, len(group), pool):
            yield _walk_pool(seen, group[at : at + pool], panel, bases, image_ids, autoencoder, settings)


@dataclass(frozen=True)
class WalkSettings:
    """How a chunk's pairs are walked."""

    search: SearchOptions
    seed: int = 0
    batch: int = 64


def _walk_pool(
    seen: Seen,
    chosen: Sequence[tuple[int, int]],
    panel: Panel,
    bases: Sequence[str],
    image_ids: Sequence[str],
    autoencoder: Autoencoder,
    settings: WalkSettings,
) -> Walked:
    image, base = np.array(chosen, dtype=np.int64).T
    classifiers = panel[bases[base[0]]].classifiers
    table = weights([panel[bases[b]] for b in base], classifiers)
    pairs = Pairs(torch.from_numpy(image), table)
    rays = find_rays(
        seen.latents, pairs, autoencoder=autoencoder, classifiers=classifiers, batch=settings.batch
    )  # fmt: skip
    found = walk(
        seen.latents, seen.reconstructions, pairs, rays,
        autoencoder=autoencoder, classifiers=classifiers, options=settings.search, batch=settings.batch,
    )  # fmt: skip
    names = [(image_ids[i], bases[b]) for i, b in zip(image, base, strict=True)]
    nulls = _controls(seen.latents, pairs, names, found.distance, autoencoder, settings)
    walked = np.array([o.walked for o in found.outcomes], dtype=bool)[:, None]
    after, null = (
        np.where(walked, panel.scores(respond(x, panel.classifiers, batch=settings.batch)), np.nan)
        for x in (found.kept[0], nulls)
    )
    return Walked(
        image, base, found.outcomes, lambdas(found, rays.start), found.distance, found.evaluations, found.image_change,
        after, null, found.kept[0], nulls,
    )  # fmt: skip


@torch.no_grad()
def _controls(
    latents: Tensor,
    pairs: Pairs,
    names: Sequence[tuple[str, str]],
    distance: Floats,
    autoencoder: Autoencoder,
    settings: WalkSettings,
) -> Tensor:
    """Images at the same latent distance in a random direction, which depends on seed, image and base alone."""
    images = []
    size = latents[0].numel()
    for rows in torch.split(torch.arange(len(pairs)), settings.batch):
        drawn = np.stack([generator(settings.seed, "control", *names[i]).standard_normal(size) for i in rows.tolist()])
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        z = latents[pairs.image[rows].to(latents.device)]
        direction = torch.from_numpy(drawn).to(z).view_as(z)
        images.append(decode(shifted(z, direction, distance[rows.numpy()]), autoencoder))
    return torch.cat(images)
