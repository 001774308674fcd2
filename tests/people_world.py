"""Counterfactuals of images of people, several of each: what a person has is shared by all of their images.

The audited head answers an image with ``truth`` of what an attribute moves, plus a part that the image shares with its
person (``icc``, the intraclass correlation, of its variance) and a part of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cfalign._analysis.alignment import Row
from cfalign._analysis.statistics import People
from cfalign._results import Floats, Outcome

HEADS = ("a", "b", "audited")
IMAGES = 5
"""Of each person."""
SPREAD = 0.3
"""Standard deviation of the answers of the audited head per unit of the attribute, between images."""


@dataclass(frozen=True)
class World:
    """Images of some people, of whom the drawn parts are known only in law."""

    count: int
    """People."""
    icc: float
    truth: float = 0.4
    """What the audited head answers on average, per unit of the attribute ``a``; it does not use ``b``."""
    sizes: tuple[int, ...] = ()
    """Images of each person, where not all have as many."""
    heads: int = 1
    """Audited heads, each with answers of its own to the same counterfactuals: as many worlds in one."""

    @property
    def people(self) -> People:
        """The person of each image."""
        return np.repeat(np.arange(self.count), self.sizes or IMAGES).astype(np.int64)

    @property
    def audited(self) -> tuple[str, ...]:
        """The names of the audited heads."""
        return ("audited", *(f"audited {i}" for i in range(1, self.heads)))

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of all heads; ``HEADS`` where one is audited."""
        return (*HEADS[:2], *self.audited)

    def answers(self, rng: np.random.Generator) -> Floats:
        """What each audited head answers to each image beyond the mean, per unit of the attribute, [image, head]."""
        who, found = self.people, []
        for _ in range(self.heads):
            shared, own = rng.normal(size=self.count)[who], rng.normal(size=len(who))
            found.append(SPREAD * (np.sqrt(self.icc) * shared + np.sqrt(1 - self.icc) * own))
        return np.stack(found, axis=1)

    def rows(self, seed: int) -> list[Row]:
        """Each attribute lowered on the images that have it, and raised on the others; half of the images have it."""
        rng = np.random.default_rng([seed, self.count, round(100 * self.icc)])
        found = []
        for base, truth in (("a", self.truth), ("b", 0.0)):
            answers, has = truth + self.answers(rng), rng.random(len(self.people)) < 0.5
            found += [_row(base, np.flatnonzero(has == way), answers, way, rng) for way in (True, False)]
        return found

    def row(self, seed: int) -> Row:
        """The attribute ``a`` lowered on all images."""
        rng = np.random.default_rng([seed, self.count, round(100 * self.icc), 1])
        return _row("a", np.arange(len(self.people)), self.truth + self.answers(rng), True, rng)


def _row(base: str, image: People, answers: Floats, lowered: bool, rng: np.random.Generator) -> Row:
    """Counterfactuals of one attribute and one way; the controls move nothing but by chance."""
    way, column = (-1.0 if lowered else 1.0), HEADS.index(base)
    before = np.full((len(image), 2 + answers.shape[1]), 0.5 - 0.4 * way)
    before[:, 2:] = 0.5
    change = np.zeros_like(before)
    change[:, column] = way * rng.uniform(0.7, 0.85, size=len(image))
    change[:, 2:] = change[:, [column]] * answers[image]
    after = before + change
    null = before + rng.normal(0, 0.01, size=before.shape)
    outcomes = (Outcome.REACHED,) * len(image)
    return Row(base, image, outcomes, before[:, column], after[:, column], before, after, null)
