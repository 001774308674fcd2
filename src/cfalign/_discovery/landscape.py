"""Images as points in the metric of the data, and what heads answer and look at there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor

from cfalign._analysis.statistics import People
from cfalign._counterfactuals.batch import Models, Points, Rows, evaluate, every_logit, float64
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.origins import Origins, origins, settled
from cfalign._heads.panel import Panel
from cfalign._heads.scoring import respond
from cfalign._models.guard import device_of
from cfalign._results import Floats
from cfalign._runs.progress import Progress
from cfalign._types import Autoencoder
from cfalign.datasets import ImageSource

EDGE = 1e-7  # of a probability whose logit is taken


@dataclass(frozen=True)
class Heads:
    """Who is asked, as labels of a panel."""

    panel: Panel
    audited: tuple[str, ...]
    known: tuple[str, ...]
    """Attributes of the reference: they explain answers and looks."""
    judges: tuple[str, ...] = ()
    """Columns of the judge: they explain answers."""

    @property
    def explaining(self) -> tuple[str, ...]:
        """The heads whose answers explain those of an audited one."""
        return (*self.known, *self.judges)

    def only(self, labels: Sequence[str]) -> Panel:
        """A panel of some heads."""
        return Panel(tuple(labels), tuple(self.panel[label] for label in labels))

    def columns(self, labels: Sequence[str]) -> list[int]:
        """Their places in the panel."""
        return [self.panel.labels.index(label) for label in labels]


@dataclass(frozen=True)
class Landscape:
    """What is needed to look at images from the latent space."""

    source: ImageSource
    autoencoder: Autoencoder
    """One that knows how latents differ."""
    search: SearchOptions
    batch: int

    @classmethod
    def of(cls, source: ImageSource, autoencoder: Autoencoder, search: SearchOptions, batch: int) -> Landscape:
        """In the metric of the data, whatever the search walks in."""
        return cls(source, autoencoder, settled(replace(search, metric="data"), autoencoder), batch)

    def parts(self, positions: Sequence[int], stage: str, progress: Progress) -> Iterator[tuple[Rows, Tensor, Origins]]:
        """(which of the positions could be read, their images x, where their walks start), part by part."""
        progress(stage, 0, len(positions))
        for at in range(0, len(positions), self.batch):
            some = list(positions[at : at + self.batch])
            loaded = self.source.load(some)
            if len(loaded):
                images = loaded.images.to(device_of(self.autoencoder))
                start = origins(images, self.autoencoder, search=self.search, batch=self.batch)
                yield np.array([at + some.index(i) for i in loaded.indices], dtype=np.int64), images, start
            progress(stage, at + len(some), len(positions))


@dataclass(frozen=True)
class Sample:
    """Images that were looked at, [image, ...]; scores are those on x0."""

    ids: tuple[str, ...]
    positions: Rows
    """In the source."""
    coordinates: Floats
    """[image, coordinate], in standard deviations."""
    scores: Floats
    """[image, column of the panel]."""
    people: People | None

    def __len__(self) -> int:
        return len(self.ids)

    def some(self, rows: Rows) -> Sample:
        """Some of the images."""
        people = None if self.people is None else self.people[rows]
        ids = tuple(self.ids[row] for row in rows)
        return Sample(ids, self.positions[rows], self.coordinates[rows], self.scores[rows], people)


def looked(
    landscape: Landscape, heads: Heads, positions: Sequence[int], people: People | None, progress: Progress
) -> Sample:
    """The images at these positions of the source that can be read, and on which every head answers a number."""
    rows: list[Rows] = []
    coordinates: list[Floats] = []
    scores: list[Floats] = []
    for some, _, start in landscape.parts(positions, "unnamed features: images", progress):
        answers = respond(start.images, heads.panel.classifiers, batch=landscape.batch)
        rows.append(some)
        coordinates.append(float64(start.latents))
        scores.append(heads.panel.scores(answers))
    every = np.concatenate(rows)
    places, found = np.concatenate(coordinates), np.concatenate(scores)
    known = np.isfinite(found).all(axis=1) & np.isfinite(places).all(axis=1)
    at = np.asarray(positions, dtype=np.int64)[every]
    ids = tuple(landscape.source.ids[i] for i in at)
    groups = None if people is None else people[every]
    return Sample(ids, at, places, found, groups).some(np.flatnonzero(known))


def slopes(
    landscape: Landscape, heads: Heads, sample: Sample, labels: Sequence[str], step: float, progress: Progress
) -> Floats:
    """How logits of heads change along every coordinate, per standard deviation, [image, head of ``labels``,
    coordinate]: images are walked ``step`` standard deviations both ways, two decoder forwards for each coordinate.

    At such distances a head answers to what one sees; its gradient also tells of what nobody does. A black box has
    slopes like any other head.
    """
    panel = heads.only(labels)
    size = sample.coordinates.shape[1]
    both = np.concatenate([np.eye(size), -np.eye(size)]) * step
    found: list[Floats] = []
    stage = "unnamed features: looks"
    for rows, _, start in landscape.parts(sample.positions.tolist(), stage, progress):
        for at, row in enumerate(rows.tolist()):
            progress(stage, row, len(sample))
            points = sample.coordinates[row] + both
            scores, _ = scores_at(landscape, panel, start, points, np.full(len(points), at), keep_images=False)
            ahead, behind = np.split(logits_of(scores), 2)
            found.append((ahead - behind).T / (2 * step))
    return np.stack(found)


def logits_of(scores: Floats) -> Floats:
    """Logits of scores, those outside [0, 1] as if at its ends."""
    return np.asarray(logit(np.clip(scores, EDGE, 1 - EDGE)))


def scores_at(
    landscape: Landscape,
    panel: Panel,
    start: Origins,
    coordinates: Floats,
    owners: Rows,
    *,
    keep_images: bool = True,
) -> tuple[Floats, Tensor]:
    """Panel scores [point, column] and images [point, c, h, w] of points [point, coordinate] on walks of images
    ``owners`` [point].
    """
    models = Models(landscape.autoencoder, panel.classifiers, landscape.batch)
    latents = torch.from_numpy(coordinates).to(start.latents)
    points = Points(latents, torch.from_numpy(owners), start)
    seen = evaluate(points, models=models, read=every_logit, keep_images=keep_images)
    return panel.scores(seen.values), seen.images
