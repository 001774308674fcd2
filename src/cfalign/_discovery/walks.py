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
from cfalign._discovery.landscape import Heads, Landscape, Sample, logits_of, scores_at
from cfalign._results import Floats
from cfalign._runs.progress import Progress

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
    rows: Rows
    """Of the walked images in the sample."""
    small: Tensor
    """Each of them, its low end and its high end in 8 bits, at most ``SMALL`` a side, [image, 3, c, h, w]."""


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
    small: list[list[Tensor]] = [[] for _ in lines]
    walked: list[list[Rows]] = [[] for _ in lines]
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
                small[number].append(_small(torch.cat([x[here][:, None], both], dim=1)))
                walked[number].append(rows[here])
                for at in np.flatnonzero(np.isin(rows[here], shown[number])).tolist():
                    kept[number][int(rows[here][at])] = (x[here[at]].cpu(), *both[at].cpu())
    drawn = [
        Pictures(torch.cat(differences[number]).mean(dim=0), ends, np.concatenate(walked[number]), torch.cat(parts))
        for number, (ends, parts) in enumerate(zip(kept, small, strict=True))
        if parts
    ]
    return [Walked(some) for some in scores], drawn


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
        points = line.ends(sample.coordinates[rows]).reshape(2 * len(rows), -1)
        latents = torch.from_numpy(points).to(start.latents)
        owners = torch.arange(len(rows)).repeat_interleave(2)
        with torch.no_grad():
            parts = [
                start.decoded(
                    owners[at : at + landscape.batch], latents[at : at + landscape.batch], landscape.autoencoder
                )
                for at in range(0, len(latents), landscape.batch)
            ]
        both = torch.cat(parts).unflatten(0, (len(rows), 2))
        yield rows, both[:, 0], both[:, 1]
