"""What every contestant gets: the same images, autoencoder, classifier and bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cfalign import autoencoders, classifiers
from cfalign._counterfactuals.options import SearchOptions
from cfalign._counterfactuals.origins import reconstruct
from cfalign._errors import BadInput
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._types import Autoencoder, Classifier
from cfalign.benchmarks.speed.counting import CountedAutoencoder, CountedClassifier, Counter
from cfalign.benchmarks.speed.options import SpeedOptions
from cfalign.synthetic import render, sample

Pair = tuple[str, int]
"""(base, row of the image)."""


@dataclass(frozen=True)
class Setting:
    """Images, models and bases."""

    images: Tensor
    """x [image, c, h, w] in [0, 1]."""
    autoencoder: Autoencoder
    classifier: Classifier
    bases: tuple[str, ...]
    batch: int = 64
    """Images per pass, at most."""

    def counted(self) -> tuple[Setting, Counter]:
        """The same with models that count, and where they count."""
        counter = Counter()
        autoencoder = CountedAutoencoder(self.autoencoder, counter)
        classifier = CountedClassifier(self.classifier, counter)
        return replace(self, autoencoder=autoencoder, classifier=classifier), counter

    def pairs(self) -> list[Pair]:
        """The pairs that get a counterfactual, base by base: those whose base predicts D(E(x)) positive."""
        with undisturbed(self.autoencoder, self.classifier):
            drawn = reconstruct(self.images, self.autoencoder, batch=self.batch)[1]
            scores = torch.sigmoid(respond(drawn, [self.classifier], batch=self.batch).double())
        columns = {base: scores[:, self.classifier.targets.index(base)] for base in self.bases}
        positive = {base: column >= SearchOptions().eligible for base, column in columns.items()}
        return [(base, row) for base, mine in positive.items() for row in mine.nonzero()[:, 0].tolist()]


def rows_by_base(pairs: Sequence[Pair]) -> Mapping[str, list[int]]:
    """Rows of the images of each base, in the order of the pairs."""
    rows: dict[str, list[int]] = {}
    for base, row in pairs:
        rows.setdefault(base, []).append(row)
    return rows


def embedded_setting(options: SpeedOptions) -> Setting:
    """The embedded models and drawn faces with independent attributes that no model was trained on.

    Raises BadInput for a base that is no embedded head.
    """
    classifier = classifiers.load("embedded")
    if unknown := [base for base in options.bases if base not in classifier.targets]:
        raise BadInput(
            f"No embedded head is called {unknown[0]!r}; expected some of {', '.join(classifier.targets)} (--bases)."
        )
    faces = render(sample(options.images, seed=options.seed + 50_000))
    return Setting(faces, autoencoders.load("embedded"), classifier, options.bases)
