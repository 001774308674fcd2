"""One chunk of images, measured: encode, walk every pair, and let every classifier answer, with a control.

The cost: one encode and one decode per image, shared by all bases; per counterfactual one backward pass for the
direction, k decoder forwards for the search of both ends, and one for the control; methods of many steps take a
backward pass with every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cfalign._analysis.statistics import generator
from cfalign._counterfactuals.batch import (
    Batch,
    Models,
    Pairs,
    Rows,
    evaluate,
    every_logit,
    shifted,
)
from cfalign._counterfactuals.completion import completed_elsewhere, pictures_of
from cfalign._counterfactuals.gradient import find_rays
from cfalign._counterfactuals.methods import Walks, walk
from cfalign._counterfactuals.options import EstimateOptions, Method, SearchOptions
from cfalign._counterfactuals.origins import Origins, origins
from cfalign._counterfactuals.ray import Ends
from cfalign._heads.composition import Composition
from cfalign._heads.panel import Panel, weights
from cfalign._heads.scoring import respond
from cfalign._results import Floats
from cfalign._types import Autoencoder, Classifier

POOL_BYTES = 128 * 2**20  # images of one pool of pairs; the search holds about four times this
Pair = tuple[int, int]
"""Row of the image in its chunk, and number of the base."""


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
    methods: Mapping[str, Method] = field(default_factory=dict)
    """By label of the base, where the search's method is ``auto``; a base without one is walked."""

    def of(self, label: str) -> WalkSettings:
        """The same for one base, with the method that it has."""
        if self.search.method != "auto":
            return self
        return replace(self, search=replace(self.search, method=self.methods.get(label, "latent-shift")))

    def aims(self, base: Base) -> tuple[SearchOptions, ...]:
        """The searches of a base, one after the other."""
        search = self.of(base.label).search
        of = {"drop": (search,), "off": (off_search(search),)}
        return of["drop"] + of["off"] if base.to == "both" else of[base.to]


@dataclass(frozen=True)
class SeenImages:
    """A chunk of images before any walk."""

    origins: Origins
    image_scores: Floats
    """Panel scores on x, [image, column]."""
    reconstruction_scores: Floats
    """Panel scores on x0, where walks start."""

    @property
    def reconstructions(self) -> Tensor:
        """x0 [image, c, h, w]."""
        return self.origins.images

    def some(self, rows: Rows, columns: Sequence[int]) -> SeenImages:
        """Some images, and their scores of some columns."""
        scores = (self.image_scores, self.reconstruction_scores)
        return SeenImages(self.origins[torch.from_numpy(rows)], *(s[rows][:, list(columns)] for s in scores))


@dataclass(frozen=True)
class ScoredEnds:
    """Ends of walks as every classifier sees them."""

    ends: Ends
    scores: Floats
    """Panel scores on x_λ, [pair, column]; NaN where there is no counterfactual."""

    def without_images(self) -> ScoredEnds:
        """The numbers alone."""
        return replace(self, ends=replace(self.ends, kept=(), logits=None, looks=None))


@dataclass(frozen=True)
class Controls:
    """What every pair is compared with: as far from x0 as its furthest end, in a random direction."""

    scores: Floats
    """Panel scores, [pair, column]; NaN where there is no counterfactual."""
    distances: Floats
    """From z0, [pair]."""
    images: Tensor
    """[pair, c, h, w]"""


@dataclass(frozen=True)
class MeasuredPairs:
    """Some (image, base) pairs of a chunk after their walk, [pair, ...]."""

    image: Rows
    base: Rows
    counterfactual: ScoredEnds
    """x_λ: the requested drop; the end ``off`` where a walk goes there at once."""
    further: ScoredEnds | None
    """Where an attribute counts as switched, after the requested drop."""
    controls: Controls
    """One for both ends."""
    to: Literal["drop", "off", "both"]
    regions: Floats | None = None
    """Completed regions: left, top, width and height as shares of the sides, [pair, 4]; None without."""

    def __len__(self) -> int:
        return len(self.image)

    @property
    def off(self) -> ScoredEnds | None:
        """Where an attribute counts as switched; None for pairs whose base is no attribute."""
        return self.counterfactual if self.to == "off" else self.further

    @property
    def further_evaluations(self) -> Rows:
        """Decoder forwards from the requested drop to where the attribute counts as switched."""
        return np.zeros(len(self), dtype=np.int64) if self.further is None else self.further.ends.evaluations

    @property
    def further_backwards(self) -> Rows:
        """Backward passes of the same way."""
        return np.zeros(len(self), dtype=np.int64) if self.further is None else self.further.ends.backwards

    def null(self, end: ScoredEnds, before: Floats) -> Floats:
        """Scores of controls that are as far from x0 as an end, [pair, column]; ``before``: those on x0."""
        scores = on_the_way(before, self.controls.scores, end.ends.distances, self.controls.distances)
        return np.where(end.ends.walked[:, None], scores, np.nan)

    def without_images(self) -> MeasuredPairs:
        """The numbers alone."""
        further = None if self.further is None else self.further.without_images()
        controls = replace(self.controls, images=self.controls.images[:0])
        return replace(self, counterfactual=self.counterfactual.without_images(), further=further, controls=controls)


def look(
    images: Tensor, panel: Panel, *, autoencoder: Autoencoder, search: SearchOptions, batch: int = 64
) -> SeenImages:
    """Encode, decode and score a chunk of images [n, c, h, w] in [0, 1]; NaN scores stay NaN."""
    start = origins(images, autoencoder, search=search, batch=batch)
    on_images = _scores(images, panel, batch)
    same = start.images is images
    return SeenImages(start, on_images, on_images if same else _scores(start.images, panel, batch))


def _scores(images: Tensor, panel: Panel, batch: int) -> Floats:
    return panel.scores(respond(images, panel.classifiers, batch=batch))


def walk_all(
    seen: SeenImages,
    chosen: Sequence[Pair],
    *,
    panel: Panel,
    bases: Sequence[Base],
    image_ids: Sequence[str],
    autoencoder: Autoencoder,
    settings: WalkSettings,
) -> Iterator[MeasuredPairs]:
    """Counterfactuals of the chosen pairs, in pools of bounded memory.

    A pool holds bases of the same modules that are walked by the same method; those of it that go to the same ends are
    walked together.
    """
    for pool in _pools(seen, chosen, bases, settings):
        image, base = np.array(pool, dtype=np.int64).T
        some = [bases[b] for b in base]
        models = Models(autoencoder, some[0].composition.classifiers, settings.batch)
        table = weights([b.composition for b in some], models.classifiers)
        batch = Batch(seen.origins, Pairs(torch.from_numpy(image), table), models, settings.estimate)
        rays = find_rays(batch) if settings.of(some[0].label).search.method == "latent-shift" else None
        for to in dict.fromkeys(b.to for b in some):
            rows = np.flatnonzero([b.to == to for b in some])
            aims = settings.aims(some[rows[0]])
            walks = walk(batch.some(rows), *aims, rays=None if rays is None else rays.some(rows))
            names = [(image_ids[image[r]], some[r].label) for r in rows]
            before = seen.reconstruction_scores[image[rows]]
            first, *others = (_scored(end, models, before, panel) for end in walks.ends)
            controls = _controls(walks, names, panel, settings.seed, autoencoder)
            further = others[0] if others else None
            yield MeasuredPairs(image[rows], base[rows], first, further, controls, to, walks.regions)


def _pools(
    seen: SeenImages, chosen: Sequence[Pair], bases: Sequence[Base], settings: WalkSettings
) -> Iterator[list[Pair]]:
    groups: dict[tuple[object, ...], list[Pair]] = {}
    for image, base in chosen:
        one = bases[base]
        alike = (settings.of(one.label).search.method, *one.composition.classifiers)
        groups.setdefault(alike, []).append((image, base))
    size = max(settings.batch, POOL_BYTES // max(1, 4 * seen.reconstructions[:1].numel()))
    for group in groups.values():
        yield from _divided(group, size)


def _divided(pairs: list[Pair], size: int) -> Iterator[list[Pair]]:
    """The pairs in pools of at most ``size``, with all pairs of an image in one pool where that can be."""
    if len(pairs) <= size:
        yield pairs
        return
    by_image: dict[int, list[Pair]] = {}
    for pair in pairs:
        by_image.setdefault(pair[0], []).append(pair)
    pool: list[Pair] = []
    for some in by_image.values():
        if pool and len(pool) + len(some) > size:
            yield pool
            pool = []
        pool += some
        while len(pool) > size:
            yield pool[:size]
            pool = pool[size:]
    yield pool


def _scored(ends: Ends, models: Models, before: Floats, panel: Panel) -> ScoredEnds:
    """``before``: panel scores on x0, [pair, column]."""
    scores = _end_scores(ends, models.classifiers, before, panel, models.batch)
    return ScoredEnds(ends, np.where(ends.walked[:, None], scores, np.nan))


def _end_scores(ends: Ends, asked: Sequence[Classifier], before: Floats, panel: Panel, batch: int) -> Floats:
    """Panel scores on x_λ, [pair, column]; classifiers ``asked`` by the search do not answer again."""
    if ends.logits is None:
        return _scores(ends.images, panel, batch)
    answers = dict(zip(asked, ends.logits.split([len(c.targets) for c in asked], dim=1), strict=True))
    for classifier in panel.classifiers:
        if classifier not in answers:
            answers[classifier] = respond(ends.images, (classifier,), batch=batch)
    scores = panel.scores(torch.cat([answers[c].to(ends.images.device) for c in panel.classifiers], dim=1))
    return np.where(ends.distances[:, None] > 0, scores, before)


def _controls(
    walks: Walks, names: Sequence[tuple[str, str]], panel: Panel, seed: int, autoencoder: Autoencoder
) -> Controls:
    distance = np.max([ends.distances for ends in walks.ends], axis=0)
    models = replace(walks.batch.models, classifiers=panel.classifiers)
    points = walks.batch.points(_changed_for_no_reason(walks, names, distance, seed, autoencoder))
    seen = evaluate(points, models=models, read=every_logit)
    walked = np.any([ends.walked for ends in walks.ends], axis=0)
    return Controls(np.where(walked[:, None], panel.scores(seen.values), np.nan), distance, seen.images)


def on_the_way(before: Floats, after: Floats, distance: Floats, whole: Floats) -> Floats:
    """Scores at a ``distance`` [pair] of the ``whole`` way between two points, [pair, column], on a straight line.

    Random steps of the embedded models move a head a little less than that on the first part of the way.
    """
    share = np.divide(distance, whole, out=np.ones_like(whole), where=whole > 0)
    return np.asarray(before + share[:, None] * (after - before))


def _changed_for_no_reason(
    walks: Walks, names: Sequence[tuple[str, str]], distance: Floats, seed: int, autoencoder: Autoencoder
) -> Tensor:
    """Points that are changed as much as counterfactuals: a random step, or the completion of a region elsewhere."""
    if walks.regions is None or walks.reach is None:
        return _control_points(walks.batch, names, distance, seed)
    places = np.stack([generator(seed, "control", *name).random(2) for name in names])
    shares = np.divide(distance, walks.reach, out=np.zeros_like(distance), where=walks.reach > 0)
    known = pictures_of(autoencoder)
    return completed_elsewhere(walks.batch.before, walks.regions, places, shares, known)


def _control_points(batch: Batch, names: Sequence[tuple[str, str]], distance: Floats, seed: int) -> Tensor:
    """Points as far away, in the space that the method walks, in a random direction of each (image id, base label).

    The direction depends on seed, image and base alone.
    """
    z, size = batch.origin, batch.latents[0].numel()
    drawn = np.stack([generator(seed, "control", *name).standard_normal(size) for name in names])
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return shifted(z, torch.from_numpy(drawn).to(z).view_as(z), distance)


def off_search(options: SearchOptions) -> SearchOptions:
    """A coarser search: how far exactly does not matter, for responses are divided by the attribute's own change."""
    drop = max(options.off_drop, options.drop)
    coarse = max(0.03, options.tolerance)
    bound = SearchOptions.max_lambda  # of the schedule alone
    return replace(options, strategy="refined", drop=drop, tolerance=coarse, max_lambda=bound)
