"""Compositions as rows over the heads of some classifiers, and the labelled columns of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cfalign._errors import BadInput
from cfalign._heads.composition import Composition
from cfalign._results import Floats
from cfalign._types import Classifier


@dataclass(frozen=True)
class Weights:
    """Compositions as rows over the concatenated heads of some classifiers."""

    coefficients: Tensor
    """[composition, head] float32."""
    on_logit: Tensor
    """[composition] bool: value = Σ c·logit + constant and score = sigmoid(value); otherwise value = score = Σ
    c·probability + constant."""
    constants: Tensor
    """[composition] float32."""

    def __getitem__(self, rows: Tensor) -> Weights:
        return Weights(self.coefficients[rows], self.on_logit[rows], self.constants[rows])

    def value(self, logits: Tensor) -> Tensor:
        """The value that a search lowers, [n]: row i of ``logits`` [n, head] under row i of the weights.

        A head whose weight is 0 has no influence, even where its logit is NaN or infinite.
        """
        coefficients, on_logit, constants = (
            part.to(logits.device) for part in (self.coefficients, self.on_logit, self.constants)
        )
        logits = logits.masked_fill(coefficients == 0, 0.0)
        return (coefficients * torch.where(on_logit[:, None], logits, torch.sigmoid(logits))).sum(dim=1) + constants


def weights(compositions: Sequence[Composition], classifiers: Sequence[Classifier]) -> Weights:
    """Rows of coefficients over the heads of ``classifiers``, among which are all classifiers of the compositions.

    A composition with the score of a sum of logits, such as a head or ``1 - head``, is a row on logits.
    """
    offsets, total = {}, 0
    for classifier in classifiers:
        offsets[classifier] = total
        total += len(classifier.targets)
    coefficients = torch.zeros(len(compositions), total)
    summed = [c.sum_of_logits or c for c in compositions]
    for row, composition in enumerate(summed):
        for coefficient, term in composition.terms:
            coefficients[row, offsets[term.classifier] + term.index] += coefficient
    on_logit = torch.tensor([c.on == "logit" for c in summed], dtype=torch.bool)
    constants = torch.tensor([c.constant for c in summed], dtype=torch.float32)
    return Weights(coefficients, on_logit, constants)


@dataclass(frozen=True)
class Panel:
    """The columns of a run: labelled heads and compositions over some classifiers, scored together."""

    labels: tuple[str, ...]
    compositions: tuple[Composition, ...]

    @property
    def classifiers(self) -> tuple[Classifier, ...]:
        """Every module that the panel needs, each once."""
        return tuple(dict.fromkeys(c for composition in self.compositions for c in composition.classifiers))

    def __getitem__(self, label: str) -> Composition:
        return self.compositions[self.labels.index(label)]

    def scores(self, logits: Tensor) -> Floats:
        """Logits [n, head of ``classifiers``] to scores [n, label] in float64.

        They are probabilities, except that compositions on probabilities may leave [0, 1]. NaN where a logit is.
        """
        parts = logits.detach().cpu().double().split([len(c.targets) for c in self.classifiers], dim=1)
        of = dict(zip(self.classifiers, parts, strict=True))
        scores: Floats = torch.stack([c.score(of) for c in self.compositions], dim=1).numpy()
        return scores


def panel(reference: Sequence[Composition], audited: Sequence[tuple[str, Composition]]) -> Panel:
    """Reference heads under their bare names, then audited (owner, composition) pairs as ``labelled`` names them."""
    names = [c.name for c in reference]
    fresh = labelled([pair for pair in audited if pair[1] not in reference], taken=names)
    return Panel((*names, *fresh), (*reference, *fresh.values()))


def labelled(audited: Sequence[tuple[str, Composition]], *, taken: Sequence[str]) -> dict[str, Composition]:
    """Audited (owner, composition) pairs by label: their bare name, or ``owner:name`` where that is taken."""
    labels: dict[str, Composition] = {}
    for owner, composition in audited:
        name = composition.name
        label = name if name not in taken and name not in labels else f"{owner}:{name}"
        if label in labels or label in taken:
            raise BadInput(f"Two heads are called {label!r}: give the classifiers different names.")
        labels[label] = composition
    return labels
