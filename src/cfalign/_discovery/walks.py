"""Images walked from one end of a feature to the other, and what every head answers at both ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor
from torch.nn import functional

from cfalign._counterfactuals.batch import Rows
from cfalign._counterfactuals.origins import Origins
from cfalign._discovery.landscape import Heads, Landscape, Sample, logits_of, scores_at
from cfalign._models.passes import in_passes
from cfalign._results import Floats
from cfalign._runs.progress import Progress

JITTER, JITTERED = 0.7, 2
"""Standard deviations of a random step along all other directions, and how many such copies there are of an end."""
SMALL = 96
"""Side in px above which the images that a name is learnt from are scaled down."""


@dataclass(frozen=True)
class Line:
    """A direction and the two positions on it that images are walked to."""

    direction: Floats
    """[coordinate], of length 1."""
    low: float
    high: float

    @classmethod
    def through(cls, direction: Floats, coordinates: Floats, ends: float) -> Line:
        """Between two quantiles of the positions of images [image, coordinate]."""
        low, high = np.quantile(coordinates @ direction, [ends, 1 - ends])
        return cls(direction, float(low), float(high))

    def ends(self, coordinates: Floats) -> Floats:
        """Where images [image, coordinate] come to lie, all else as it was, [image, end, coordinate]."""
        away = np.array([self.low, self.high]) - (coordinates @ self.direction)[:, None]
        return np.asarray(coordinates[:, None] + away[..., None] * self.direction)


@dataclass(frozen=True)
class Walked:
    """Panel scores at both ends of one line, [image, end, column], NaN where an image was not walked."""

    scores: Floats

    def change(self, column: int) -> Floats:
        """Change of a head's score from the low end to the high one, [image]."""
        return np.asarray(self.scores[:, 1, column] - self.scores[:, 0, column])

    def named(self, column: int, known: Sequence[int], coefficients: Floats) -> Floats:
        """The part of that change which the changes of known heads' logits explain, [image]."""
        low, high = self.scores[:, 0], self.scores[:, 1]
        return explained(low[:, column], low[:, list(known)], high[:, list(known)], coefficients)


def explained(before: Floats, known_before: Floats, known_after: Floats, coefficients: Floats) -> Floats:
    """The change of a head's score [...] that the changes of known heads' logits explain.

    ``before``: the head's score [...]. ``known_before``, ``known_after``: scores of the known heads [..., head].
    ``coefficients``: the weight of each known logit in the head's.
    """
    start = logits_of(before)
    moved = logits_of(known_after) - logits_of(known_before)
    return np.asarray(expit(start + moved @ coefficients) - expit(start))


@dataclass(frozen=True)
class Pictures:
    """What walks along one line look like."""

    difference: Tensor
    """Mean over images of the largest |change| of a channel, [h, w]."""
    ends: dict[int, tuple[Tensor, Tensor, Tensor]]
    """Original and both ends [c, h, w] of the images to be shown, by their row in the sample."""


def walk_lines(
    landscape: Landscape,
    heads: Heads,
    sample: Sample,
    lines: Sequence[Line],
    *,
    asked: Sequence[Sequence[str]],
    images: Sequence[Rows],
    shown: Sequence[Rows],
    progress: Progress,
) -> tuple[list[Walked], list[Pictures]]:
    """Every line walked by its images of the sample; each image is encoded once for all lines.

    ``asked``: heads that answer, by line; the scores of others stay NaN. ``images``: rows of the sample by line.
    ``shown``: those of them whose pictures are kept. Pictures are those of the lines that show any, in their order.
    """
    scores = [np.full((len(sample), 2, len(heads.panel.labels)), np.nan) for _ in lines]
    panels = [heads.only(labels) for labels in asked]
    columns = [heads.columns(labels) for labels in asked]
    kept: list[dict[int, tuple[Tensor, Tensor, Tensor]]] = [{} for _ in lines]
    differences: list[list[Tensor]] = [[] for _ in lines]
    for rows, x, start in landscape.parts(sample.positions.tolist(), "unnamed features: walks", progress):
        for number, line in enumerate(lines):
            here = np.flatnonzero(np.isin(rows, images[number]))
            if not len(here):
                continue
            points = line.ends(sample.coordinates[rows[here]]).reshape(2 * len(here), -1)
            found, pictures = scores_at(landscape, panels[number], start, points, here.repeat(2))
            ends = np.full((len(here), 2, len(heads.panel.labels)), np.nan)
            ends[..., columns[number]] = found.reshape(len(here), 2, -1)
            scores[number][rows[here]] = ends
            if len(shown[number]):
                both = pictures.unflatten(0, (len(here), 2))
                differences[number].append((both[:, 1] - both[:, 0]).abs().amax(dim=1).cpu())
                for at in np.flatnonzero(np.isin(rows[here], shown[number])).tolist():
                    kept[number][int(rows[here][at])] = (x[here[at]].cpu(), *both[at].cpu())
    drawn = [
        Pictures(torch.cat(parts).mean(dim=0), ends) for ends, parts in zip(kept, differences, strict=True) if parts
    ]
    return [Walked(some) for some in scores], drawn


def originals_of(landscape: Landscape, sample: Sample, progress: Progress) -> Tensor:
    """The images themselves in 8 bits, at most ``SMALL`` a side, [image, c, h, w]."""
    parts = landscape.parts(sample.positions.tolist(), "unnamed features: originals", progress)
    return torch.cat([_small(x[:, None])[:, 0] for _, x, _ in parts])


def _small(images: Tensor) -> Tensor:
    """Images [image, k, c, h, w] in 8 bits, scaled down."""
    flat = images.flatten(0, 1)
    if min(flat.shape[-2:]) > SMALL:
        flat = functional.interpolate(flat, size=(SMALL, SMALL), mode="area")
    pixels = (flat.clamp(0, 1) * 255).round().to(torch.uint8).cpu()
    return pixels.view(*images.shape[:2], *pixels.shape[1:])


def ends_of(
    landscape: Landscape, sample: Sample, line: Line, progress: Progress
) -> Iterator[tuple[Rows, Tensor, Tensor]]:
    """(rows of the sample, images at the low end, images at the high end [image, c, h, w]), part by part."""
    for rows, _, start in landscape.parts(sample.positions.tolist(), "unnamed features: regions", progress):
        both = _drawn(landscape, start, line.ends(sample.coordinates[rows]))
        yield rows, both[:, 0], both[:, 1]


def examples_of(
    landscape: Landscape, sample: Sample, line: Line, rng: np.random.Generator, progress: Progress
) -> Tensor:
    """What a head of a feature is learnt from, in 8 bits, at most ``SMALL`` a side, [image, example, c, h, w].

    Of every image: itself, its low end and its high end, and both ends once more after a random step of ``JITTER``
    standard deviations along every other direction, so that nothing but the feature tells them apart.
    """
    parts: list[Tensor] = []
    for rows, x, start in landscape.parts(sample.positions.tolist(), "unnamed features: examples", progress):
        ends = line.ends(sample.coordinates[rows])
        step = JITTER * rng.standard_normal((len(rows), 2 * JITTERED, ends.shape[-1]))
        step -= (step @ line.direction)[..., None] * line.direction
        points = np.concatenate([ends, ends.repeat(JITTERED, axis=1) + step], axis=1)
        parts.append(_small(torch.cat([x[:, None], _drawn(landscape, start, points)], dim=1)))
    return torch.cat(parts)


@torch.no_grad()
def _drawn(landscape: Landscape, start: Origins, points: Floats) -> Tensor:
    """The images of points [image, point, coordinate], [image, point, c, h, w]."""
    count, each = points.shape[:2]
    latents = torch.from_numpy(points.reshape(count * each, -1)).to(start.latents)
    owners = torch.arange(count).repeat_interleave(each)

    def work(rows: slice) -> Tensor:
        return start.decoded(owners[rows], latents[rows], landscape.autoencoder)

    images = torch.cat(in_passes(work, len(latents), most=landscape.batch))
    return images.view(count, each, *images.shape[1:])
