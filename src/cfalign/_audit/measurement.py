"""One chunk of images, measured: reconstruct, walk every pair, let every classifier look, and control.

The cost: one encode and one decode per image, shared by all bases; per counterfactual one decoder forward with its
backward for the direction, k forwards for the search, and one for the control; methods of many steps take a backward
pass with every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfalign._analysis.statistics import generator
from cfalign._counterfactuals.batch import Pairs, Scene, decode, reconstruct, shifted
from cfalign._counterfactuals.methods import make
from cfalign._counterfactuals.options import EstimateOptions, SearchOptions
from cfalign._counterfactuals.ray import Found
from cfalign._heads.composition import Composition
from cfalign._heads.panel import Panel, weights
from cfalign._heads.scoring import respond
from cfalign._results import Floats, Outcome
from cfalign._types import Autoencoder

POOL_BYTES = 128 * 2**20  # images of one pool of pairs; the search holds about four times this


@dataclass(frozen=True)
class Point:
    """An end of every pair's walk, and its control: the same distance in a random direction; [pair, ...]."""

    distances: Floats
    scores: Floats
    """Panel scores [pair, column]; NaN where there is no counterfactual."""
    control_scores: Floats
    images: Tensor
    controls: Tensor


@dataclass(frozen=True)
class Walked:
    """Some (image, base) pairs after their walk, [pair, ...]."""

    image: NDArray[np.int64]
    base: NDArray[np.int64]
    outcomes: tuple[Outcome, ...]
    lambdas: Floats
    evaluations: NDArray[np.int64]
    image_change: Floats
    counterfactual: Point
    """x_λ: the requested drop; the point ``off`` itself where a walk goes there at once."""
    off: Point | None
    """Where an attribute counts as switched. None for pairs whose base is no attribute."""
    off_evaluations: NDArray[np.int64]
    backwards: NDArray[np.int64]
    off_backwards: NDArray[np.int64]

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
    """Encode, decode and score a chunk of images [n, c, h, w] in [0, 1]; NaN scores stay NaN."""
    parts = [reconstruct(part, autoencoder) for part in torch.split(images, batch)]
    latents, x0 = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    on_images = panel.scores(respond(images, panel.classifiers, batch=batch))
    on_x0 = panel.scores(respond(x0, panel.classifiers, batch=batch))
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
    bases: Sequence[Base],
    image_ids: Sequence[str],
    autoencoder: Autoencoder,
    settings: WalkSettings,
) -> Iterator[Walked]:
    """Counterfactuals of the chosen (image, base) pairs, in pools of bounded memory.

    A pool holds bases of the same modules that are walked to the same points.
    """
    groups: dict[tuple[object, ...], list[tuple[int, int]]] = {}
    for image, base in chosen:
        groups.setdefault((bases[base].to, *bases[base].composition.classifiers), []).append((image, base))
    pool = max(settings.batch, POOL_BYTES // max(1, 4 * seen.reconstructions[:1].numel()))
    for group in groups.values():
        for at in range(0, len(group), pool):
            yield _walk_pool(seen, group[at : at + pool], panel, bases, image_ids, autoencoder, settings)


@dataclass(frozen=True)
class Base:
    """What gets counterfactuals."""

    label: str
    composition: Composition
    """Its score is lowered; to raise a head, its complement."""
    to: Literal["drop", "off", "both"] = "drop"
    """How far: the requested drop, until it counts as switched off, or first the one and then the other."""


@dataclass(frozen=True)
class WalkSettings:
    """How a chunk's pairs are walked."""

    search: SearchOptions
    estimate: EstimateOptions | None = None
    """How the gradient of a black box is found."""
    seed: int = 0
    batch: int = 64


def _walk_pool(
    seen: Seen,
    chosen: Sequence[tuple[int, int]],
    panel: Panel,
    bases: Sequence[Base],
    image_ids: Sequence[str],
    autoencoder: Autoencoder,
    settings: WalkSettings,
) -> Walked:
    image, base = np.array(chosen, dtype=np.int64).T
    classifiers, to = bases[base[0]].composition.classifiers, bases[base[0]].to
    table = weights([bases[b].composition for b in base], classifiers)
    pairs = Pairs(torch.from_numpy(image), table)
    scene = Scene(
        seen.latents, seen.reconstructions, pairs, autoencoder, classifiers, settings.estimate, settings.batch
    )  # fmt: skip
    aims = {"drop": settings.search, "off": off_search(settings.search)}
    made = make(scene, *(aim for name, aim in aims.items() if to in (name, "both")))
    found = made.ends[0]
    names = [(image_ids[i], bases[b].label) for i, b in zip(image, base, strict=True)]

    def point(end: Found) -> Point:
        controls = _controls(made.scene, names, end.distance, settings.seed)
        walked = np.array([o.walked for o in found.outcomes], dtype=bool)[:, None]
        scores, control_scores = (
            np.where(walked, panel.scores(respond(x, panel.classifiers, batch=settings.batch)), np.nan)
            for x in (end.kept[0], controls)
        )
        return Point(end.distance, scores, control_scores, end.kept[0], controls)

    further = made.ends[1] if to == "both" else None
    nothing = np.zeros(len(image), dtype=np.int64)
    first = point(found)
    return Walked(
        image, base, found.outcomes, made.lambdas, found.evaluations, found.image_change,
        counterfactual=first,
        off=None if to == "drop" else first if further is None else point(further),
        off_evaluations=nothing if further is None else further.evaluations,
        backwards=found.backwards,
        off_backwards=nothing if further is None else further.backwards,
    )  # fmt: skip


def off_search(options: SearchOptions) -> SearchOptions:
    """A coarser search: how far exactly does not matter, for responses are divided by the attribute's own change."""
    drop = max(options.off_drop, options.drop)
    coarse = max(0.03, options.tolerance)
    bound = SearchOptions.max_lambda  # of the schedule alone
    return replace(options, strategy="refined", drop=drop, tolerance=coarse, max_lambda=bound)


@torch.no_grad()
def _controls(scene: Scene, names: Sequence[tuple[str, str]], distance: Floats, seed: int) -> Tensor:
    """Images at the same distance, in the space that the method walks, in a random direction, which depends on seed,
    image and base alone.
    """
    images = []
    size, pairs = scene.latents[0].numel(), scene.pairs
    for rows in torch.split(torch.arange(len(pairs)), scene.batch):
        drawn = np.stack([generator(seed, "control", *names[i]).standard_normal(size) for i in rows.tolist()])
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        z = scene.latents[pairs.image[rows].to(scene.latents.device)]
        direction = torch.from_numpy(drawn).to(z).view_as(z)
        images.append(decode(shifted(z, direction, distance[rows.numpy()]), scene.autoencoder))
    return torch.cat(images)
