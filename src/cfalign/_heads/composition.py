"""The algebra of heads: f' = Σ cᵢ fᵢ (Eqs. 4 and 5).

One value object serves Python (``clf["smiling"] + 0.3 * clf["arched_eyebrows"]``) and the command line
(``"smiling + 0.3*arched_eyebrows"``); a single head is the composition with one term of coefficient 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from cfalign._errors import BadInput, nearest
from cfalign._types import Classifier

Scale = Literal["probability", "logit"]


_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"


_CONSTANT = re.compile(rf"\s*([+-])?\s*({_NUMBER})\s*(?=[+-]|$)")


_TERM = re.compile(rf"\s*([+-])?\s*(?:({_NUMBER})\s*\*\s*)?([\w.:]*[^\W\d][\w.:]*)\s*")


@dataclass(frozen=True)
class Head:
    """One output of a classifier."""

    classifier: Classifier
    target: str

    @property
    def index(self) -> int:
        """Column of the head in ``classifier.logits``."""
        return self.classifier.targets.index(self.target)


@dataclass(frozen=True)
class Composition:
    """A weighted sum of heads. On ``"probability"`` (default) its score is Σ cᵢ·pᵢ + constant, unclipped, so it may
    leave [0, 1]; on ``"logit"`` its score is the probability sigmoid(Σ cᵢ·logitᵢ + constant).

    Equal when terms, coefficients, constant and scale are; terms of the same head are merged in order of appearance.
    """

    terms: tuple[tuple[float, Head], ...]
    on: Scale = "probability"
    constant: float = 0.0
    """Added to the sum, in its unit: what centring a head takes away."""

    def __post_init__(self) -> None:
        merged: dict[Head, float] = {}
        for coefficient, head in self.terms:
            merged[head] = merged.get(head, 0.0) + float(coefficient)
        object.__setattr__(self, "terms", tuple((c, h) for h, c in merged.items()))
        if not self.terms:
            raise BadInput('A composition needs at least one head, e.g. "smiling + 0.3*arched_eyebrows".')

    @property
    def is_head(self) -> bool:
        """Whether this is one plain head."""
        return len(self.terms) == 1 and self.terms[0][0] == 1.0 and self.constant == 0.0

    @property
    def classifiers(self) -> tuple[Classifier, ...]:
        """The modules it needs, each once, in order of appearance."""
        return tuple(dict.fromkeys(head.classifier for _, head in self.terms))

    @property
    def name(self) -> str:
        """Canonical text, e.g. ``smiling + 0.3*arched_eyebrows``; parsing it gives the same terms, to six digits."""
        text = ""
        for coefficient, head in self.terms:
            sign = "-" if coefficient < 0 else "+"
            size = "" if abs(coefficient) == 1.0 else f"{abs(coefficient):.6g}*"
            lead = ("-" if sign == "-" else "") if not text else f" {sign} "
            text += f"{lead}{size}{head.target}"
        return text if self.constant == 0 else f"{text} {'-' if self.constant < 0 else '+'} {abs(self.constant):.6g}"

    def scaled(self, on: Scale) -> Composition:
        """The same terms composed on another scale."""
        return replace(self, on=on)

    def score(self, logits: Mapping[Classifier, Tensor]) -> Tensor:
        """Scores [n] from the logits [n, target] of every classifier that it names."""
        columns = [(c, logits[head.classifier][:, head.index]) for c, head in self.terms]
        start = torch.full_like(columns[0][1], self.constant)
        if self.on == "logit" or self.is_head:
            return torch.sigmoid(sum((c * column for c, column in columns), start))
        return sum((c * torch.sigmoid(column) for c, column in columns), start)

    def __add__(self, other: Composition | float) -> Composition:
        if isinstance(other, int | float):
            return replace(self, constant=self.constant + float(other))
        if not isinstance(other, Composition):
            return NotImplemented
        terms, constant = self.terms + other.terms, self.constant + other.constant
        if other.on == self.on:
            return Composition(terms, on=self.on, constant=constant)
        if not any(c.is_head and c.on == "probability" for c in (self, other)):  # a plain head fits both scales
            raise BadInput(
                f"Compositions on {self.on} and on {other.on} cannot be added; use .scaled() on one of them."
            )
        return Composition(terms, on="logit", constant=constant)

    __radd__ = __add__

    def __mul__(self, factor: float) -> Composition:
        terms = tuple((c * float(factor), h) for c, h in self.terms)
        return Composition(terms, on=self.on, constant=self.constant * float(factor))

    __rmul__ = __mul__

    def __neg__(self) -> Composition:
        return self * -1.0

    def __sub__(self, other: Composition | float) -> Composition:
        if isinstance(other, int | float):
            return self + -float(other)
        if not isinstance(other, Composition):
            return NotImplemented
        plain = other.is_head and other.on == "probability"
        return self + -(other.scaled(self.on) if plain else other)


def head(classifier: Classifier, target: str) -> Composition:
    """One head of a classifier; an unknown target is an error that names the nearest valid ones."""
    if target not in classifier.targets:
        raise BadInput(
            f"Classifier {classifier.name!r} has no target {target!r}; {nearest(target, classifier.targets)}."
        )
    return Composition(((1.0, Head(classifier, target)),))


def complement(base: Composition) -> Composition:
    """What falls as ``base`` rises: 1 − s for a head or a composition on logits, −s for one on probabilities; either
    has minus the gradient of s.
    """
    return (-base).scaled("logit") if base.is_head or base.on == "logit" else -base


def parse(text: str, classifiers: Mapping[str, Classifier] | Classifier, *, on: Scale = "probability") -> Composition:
    """``"smiling + 0.3*arched_eyebrows"`` to a composition; a number alone, as in ``"smiling - 0.1"``, is its constant.

    ``classifiers``: one classifier, or several by name; ``name:target`` picks among them, a bare target is looked up
    in order. Unknown targets and malformed text raise BadInput.
    """
    known = {classifiers.name: classifiers} if isinstance(classifiers, Classifier) else dict(classifiers)
    terms: list[tuple[float, Head]] = []
    constant, position = 0.0, 0
    while position < len(text):
        alone = _CONSTANT.match(text, position)
        match = alone or _TERM.match(text, position)
        if match is None or match.end() == position or (position and match.group(1) is None):
            raise BadInput(
                f"Cannot read {text!r} at position {position}: expected a weighted sum of targets such as "
                '"smiling + 0.3*arched_eyebrows".'
            )
        value = (-1.0 if match.group(1) == "-" else 1.0) * float(match.group(2) or 1.0)
        if alone:
            constant += value
        else:
            terms.append((value, _find(match.group(3), known)))
        position = match.end()
    if position and not terms:
        raise BadInput(f"Cannot read {text!r}: a number alone is no composition; expected at least one target.")
    if not terms:
        raise BadInput('An empty composition was given; expected a target or a sum such as "smiling + 0.3*young".')
    return Composition(tuple(terms), on=on, constant=constant)


def _find(name: str, classifiers: Mapping[str, Classifier]) -> Head:
    owner, _, target = name.rpartition(":")
    candidates = [classifiers[owner]] if owner in classifiers else [] if owner else list(classifiers.values())
    for classifier in candidates:
        if target in classifier.targets:
            return Head(classifier, target)
    valid = [t for c in (candidates or classifiers.values()) for t in c.targets]
    raise BadInput(f"No target {name!r}; {nearest(target, valid)}.")
