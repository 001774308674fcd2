"""The faces, heads and models that all methods are compared on."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from cfalign import autoencoders, classifiers
from cfalign._counterfactuals.origins import Origins, origins, reconstruct
from cfalign._errors import BadInput
from cfalign._heads.scoring import respond
from cfalign._models.guard import modules_of
from cfalign._results import Floats
from cfalign._types import Autoencoder, Classifier
from cfalign.benchmarks.counterfactuals.options import BenchmarkOptions
from cfalign.synthetic import DERIVED, INTERVENABLE, Faces, intervene, render, sample
from cfalign.synthetic.factors import ATTRIBUTES, OFF

BATCH = 64


class ModelsAndFaces:
    """The embedded heads, the oracle that judges them, the autoencoder, and new faces with independent attributes."""

    def __init__(self, options: BenchmarkOptions) -> None:
        self.options = options
        self.reference: Classifier = classifiers.load("embedded")
        self.oracle: Classifier = classifiers.load("embedded:oracle")
        self.autoencoder: Autoencoder = autoencoders.load("embedded")
        known = [name for name in self.reference.targets if name in INTERVENABLE and name not in DERIVED]
        self.factors = list(options.heads or known)
        if unknown := [name for name in self.factors if name not in known]:
            raise BadInput(f"No embedded head {unknown[0]!r} stands for one factor; expected some of {known}.")
        self.faces: Faces = sample(9 * options.images, seed=options.seed + 40_000)

    @cached_property
    def images(self) -> Tensor:
        """x [face, 3, 64, 64]."""
        return render(self.faces)

    @cached_property
    def origins(self) -> Origins:
        """Where walks of all faces start."""
        return origins(self.images, self.autoencoder, search=self.options.search, batch=BATCH)

    @property
    def reconstructions(self) -> Tensor:
        """x0."""
        return self.origins.images

    @cached_property
    def scores(self) -> Floats:
        """Probabilities of the embedded heads on x0, [face, head]."""
        return probabilities(self.reconstructions, self.reference)

    @property
    def correlations(self) -> dict[str, Floats]:
        """By head: correlations of its label with all labels of the faces, in the order of the oracle's targets."""
        columns = [ATTRIBUTES.index(target) for target in self.oracle.targets]
        labels = self.faces.labels().double().numpy()[:, columns]
        with np.errstate(divide="ignore", invalid="ignore"):
            table = np.nan_to_num(np.corrcoef(labels, rowvar=False))
        return {name: table[self.oracle.targets.index(name)] for name in self.factors}

    def chosen(self, name: str) -> Tensor:
        """Row numbers of the faces that counterfactuals start from: the first that the head predicts positive."""
        positive = self.score_of(name) >= self.options.search.eligible
        return torch.from_numpy(np.flatnonzero(positive)[: self.options.images])

    def score_of(self, name: str) -> Floats:
        """Probabilities of one embedded head on x0, [face]."""
        return self.scores[:, self.reference.targets.index(name)]

    def edit(self, name: str, chosen: Tensor) -> Tensor:
        """The true edit: change of x0 when the factor is off, through the autoencoder; 0 where the label is off."""
        switched = render(intervene(self.faces[chosen], name, OFF))
        off = reconstruct(switched, self.autoencoder)[1]
        on = self.faces.labels()[chosen, ATTRIBUTES.index(name)]
        return (off - self.origins.drawn[chosen]) * on.view(-1, 1, 1, 1)

    def drift(self, rounds: tuple[int, ...]) -> dict[str, Floats]:
        """After each number of encode–decode rounds: mean absolute change per pixel from x, and of the oracle's
        probabilities, both [face].
        """
        drift: dict[str, Floats] = {}
        start, x = probabilities(self.images, self.oracle), self.images
        for number in range(1, max(rounds) + 1):
            x = reconstruct(x, self.autoencoder, batch=BATCH)[1]
            if number in rounds:
                drift[f"drift_l1_{number}"] = (x - self.images).abs().flatten(1).mean(dim=1).double().numpy()
                drift[f"drift_oracle_{number}"] = np.abs(probabilities(x, self.oracle) - start).mean(axis=1)
        return drift


def probabilities(images: Tensor, classifier: Classifier) -> Floats:
    """Probabilities of every head, [n, head]."""
    answers: Floats = torch.sigmoid(respond(images, [classifier]).double()).numpy()
    return answers


def features(images: Tensor, classifier: Classifier) -> Floats:
    """Input of the last linear layer of a network, [n, feature]."""
    layers = [layer for top in modules_of(classifier) for layer in top.modules() if isinstance(layer, nn.Linear)]
    seen: list[Tensor] = []
    respond(images[:1], [classifier])  # a classifier that is new looks at images of its own first
    hook = layers[-1].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    try:
        respond(images, [classifier])
    finally:
        hook.remove()
    read: Floats = torch.cat(seen).double().numpy()
    return read
