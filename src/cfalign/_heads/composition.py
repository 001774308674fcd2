"""The algebra of heads: f' = Σ cᵢ fᵢ + constant (Eqs. 4 and 5).

Python (``clf["smiling"] + 0.3 * clf["arched_eyebrows"]``) and the command line (``"smiling + 0.3*arched_eyebrows"``)
give the same value object. A single head is the composition with one term of coefficient 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NoReturn, SupportsFloat

import torch
from torch import Tensor

from cfalign._errors import BadInput, nearest
from cfalign._heads.names import QUOTED, matching, quoted, unquoted
from cfalign._types import Classifier

Scale = Literal["probability", "logit"]

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_CONSTANT = re.compile(rf"\s*([+-])?\s*({_NUMBER})\s*(?=[+-]|$)")
_TERM = re.compile(rf"\s*([+-])?\s*(?:({_NUMBER})\s*\*\s*)?((?:{QUOTED}|[\w.:])+)\s*")
_WORD = re.compile(r"[^\W\d]|['\"]")
_COLON = re.compile(rf"{QUOTED}|(:)")


@dataclass(frozen=True)
class Head:
    """One output of a classifier."""

    classifier: Classifier
    target: str

    def __repr__(self) -> str:
        return f"Head({self.classifier.name!r}, {self.target!r})"

    @property
    def index(self) -> int:
        """Column of the head in ``classifier.logits``."""
        return self.classifier.targets.index(self.target)


@dataclass(frozen=True)
class Composition:
    """A weighted sum of heads plus a constant (Eqs. 4 and 5); one head of a classifier is the simplest.

    Built with ``+``, ``-``, ``*`` and ``/`` from ``clf["target"]``. Its score depends on the scale:

    * on ``"probability"`` (default) Σ cᵢ·pᵢ + constant, unclipped, so it may leave [0, 1];
    * on ``"logit"`` the probability sigmoid(Σ cᵢ·logitᵢ + constant).

    The constant has the unit of the sum. So ``1 - clf["a"]`` is the probability that ``a`` is absent, 1 − p =
    sigmoid(−logit), and an image is eligible for a counterfactual of it where the logit of ``a`` is negative;
    on logits the same is ``-clf["a"].scaled("logit")``. A NaN logit of a head gives a NaN score.

    Compositions are equal when terms, coefficients, constant and scale are. Terms of one head are merged in order of
    appearance. ``str()`` gives the exact text, which ``parse`` reads; ``name`` has six digits.

    Raises BadInput without a term, for a coefficient or constant that is not finite, for the product or ratio of two
    compositions, for division by zero, and for a sum of compositions on different scales.

    >>> clf = cfa.classifiers.load("embedded")
    >>> clf["smiling"] + 0.3 * clf["arched_eyebrows"]
    Composition('smiling + 0.3*arched_eyebrows', classifier='embedded')
    >>> 1 - clf["smiling"] / 2
    Composition('1 - 0.5*smiling', classifier='embedded')
    >>> -clf["smiling"].scaled("logit")
    Composition('-smiling', on='logit', classifier='embedded')
    """

    terms: tuple[tuple[float, Head], ...]
    on: Scale = "probability"
    constant: float = 0.0
    """Added to the sum, in its unit: what centring a head takes away."""

    __array_ufunc__ = None  # so that a NumPy number leaves arithmetic to this class

    def __post_init__(self) -> None:
        merged: dict[Head, float] = {}
        for coefficient, head in self.terms:
            merged[head] = merged.get(head, 0.0) + float(coefficient)
        object.__setattr__(self, "terms", tuple((c, h) for h, c in merged.items()))
        if not self.terms:
            raise BadInput('A composition needs at least one head, e.g. "smiling + 0.3*arched_eyebrows".')
        for number in (*merged.values(), self.constant):
            _check_finite(number)

    def __repr__(self) -> str:
        owners = tuple(classifier.name for classifier in self.classifiers)
        scale = "" if self.on == "probability" else f", on={self.on!r}"
        whose = f"classifier={owners[0]!r}" if len(owners) == 1 else f"classifiers={owners!r}"
        return f"Composition({str(self)!r}{scale}, {whose})"

    def __str__(self) -> str:
        if len(self.classifiers) == 1:
            return self.name if self.is_head else self._text([quoted(h.target) for _, h in self.terms], _exact)
        labels = [f"{quoted(head.classifier.name)}:{quoted(head.target)}" for _, head in self.terms]
        return self._text(labels, _exact)

    @property
    def is_head(self) -> bool:
        """Whether this is one plain head."""
        return len(self.terms) == 1 and self.terms[0][0] == 1.0 and self.constant == 0.0

    @property
    def _is_absence(self) -> bool:
        """Whether this is 1 − p of one head."""
        alone = len(self.terms) == 1 and self.terms[0][0] == -1.0
        return alone and self.constant == 1.0 and self.on == "probability"

    @property
    def classifiers(self) -> tuple[Classifier, ...]:
        """The modules it needs, each once, in order of appearance."""
        return tuple(dict.fromkeys(head.classifier for _, head in self.terms))

    @property
    def name(self) -> str:
        """Text with six digits, e.g. ``smiling + 0.3*arched_eyebrows``: its label in tables. One head is called as it
        is, and in a sum a name with other signs than letters, digits and underscores stands in quotes.
        """
        if self.is_head:
            return self.terms[0][1].target
        return self._text([quoted(head.target) for _, head in self.terms], "{:.6g}".format)

    def _text(self, labels: list[str], number: Callable[[float], str]) -> str:
        parts = []
        for (coefficient, _), label in zip(self.terms, labels, strict=True):
            size = "" if abs(coefficient) == 1.0 else f"{number(abs(coefficient))}*"
            parts.append(("-" if coefficient < 0 else "+", f"{size}{label}"))
        if self.constant:
            size = _distinct(number(abs(self.constant)), self.classifiers)
            constant = ("-" if self.constant < 0 else "+", size)
            first = self.constant > 0 and self.terms[0][0] < 0  # 1 - a rather than -a + 1
            parts.insert(0 if first else len(parts), constant)
        text = " ".join(f"{sign} {part}" for sign, part in parts)
        return text.removeprefix("+ ") if parts[0][0] == "+" else f"-{text.removeprefix('- ')}"

    def scaled(self, on: Scale) -> Composition:
        """The same terms and constant composed on another scale; a constant then counts in the other unit.

        The score of a head stays what it is, and so does that of ``1 - head``, which on logits is ``-head``.
        """
        if on == "logit" and self._is_absence:
            return Composition(self.terms, on="logit")
        return replace(self, on=on)

    @property
    def sum_of_logits(self) -> Composition | None:
        """The composition on logits that has the same score; None where a sum of probabilities has none.

        There the gradient does not vanish where a probability is near 0 or 1.
        """
        same = self.on == "logit" or self.is_head or self._is_absence
        return self.scaled("logit") if same else None

    def score(self, logits: Mapping[Classifier, Tensor]) -> Tensor:
        """Scores [n] from the logits [n, target] of every classifier that it names; NaN where a logit is."""
        exact = self.sum_of_logits
        terms, constant = (self.terms, self.constant) if exact is None else (exact.terms, exact.constant)
        columns = [(c, logits[head.classifier][:, head.index]) for c, head in terms]
        start = torch.full_like(columns[0][1], constant)
        if exact is not None:
            return torch.sigmoid(sum((c * column for c, column in columns), start))
        return sum((c * torch.sigmoid(column) for c, column in columns), start)

    def __add__(self, other: Composition | SupportsFloat) -> Composition:
        if not isinstance(other, Composition):
            number = _number(other)
            return NotImplemented if number is None else replace(self, constant=self.constant + number)
        terms, constant = self.terms + other.terms, self.constant + other.constant
        if other.on == self.on:
            return Composition(terms, on=self.on, constant=constant)
        if not any(c.is_head and c.on == "probability" for c in (self, other)):  # a plain head fits both scales
            raise BadInput(
                f"Expected compositions on one scale, got {self} on {self.on} and {other} on {other.on}; bring one to "
                f"the scale of the other with .scaled({self.on!r}) or .scaled({other.on!r})."
            )
        return Composition(terms, on="logit", constant=constant)

    __radd__ = __add__

    def __mul__(self, factor: Composition | SupportsFloat) -> Composition:
        if isinstance(factor, Composition):
            self._refuse("multiplied by", factor)
        number = _number(factor)
        if number is None:
            return NotImplemented
        terms = tuple((c * number, h) for c, h in self.terms)
        return Composition(terms, on=self.on, constant=self.constant * number)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Composition | SupportsFloat) -> Composition:
        if isinstance(divisor, Composition):
            self._refuse("divided by", divisor)
        number = _number(divisor)
        if number == 0:
            raise BadInput(f"Expected a number other than zero to divide {self} by, got {divisor!r}.")
        if number is None:
            return NotImplemented
        terms = tuple((c / number, h) for c, h in self.terms)
        return Composition(terms, on=self.on, constant=self.constant / number)

    def __rtruediv__(self, other: SupportsFloat) -> Composition:
        if _number(other) is None:
            return NotImplemented
        raise BadInput(
            f"Expected a weighted sum of heads, got {other!r} divided by {self}; divide a composition by a number."
        )

    def _refuse(self, done: str, other: Composition) -> NoReturn:
        raise BadInput(
            f"Expected a weighted sum of heads, got {self} {done} {other}; heads can be added and subtracted, and "
            "multiplied or divided by numbers."
        )

    def __neg__(self) -> Composition:
        return self * -1.0

    def __sub__(self, other: Composition | SupportsFloat) -> Composition:
        if not isinstance(other, Composition):
            number = _number(other)
            return NotImplemented if number is None else self + -number
        plain = other.is_head and other.on == "probability"
        return self + -(other.scaled(self.on) if plain else other)

    def __rsub__(self, other: SupportsFloat) -> Composition:
        return -self + other


def _number(value: object) -> float | None:
    """The finite number that ``value`` is; None for what is no number. Raises BadInput for NaN and infinity."""
    if not isinstance(value, SupportsFloat):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):  # an array or tensor of several numbers
        return None
    _check_finite(number)
    return number


def _exact(number: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(number).removesuffix(".0")


def _distinct(number: str, classifiers: Iterable[Classifier]) -> str:
    """The number, written so that it is no head's name: 1.0 where a head is called 1."""
    names = {target for classifier in classifiers for target in classifier.targets}
    while number in names:
        number = f"{number}.0" if number.isdigit() else f"0{number}"
    return number


def _check_finite(number: float) -> None:
    if not math.isfinite(number):
        raise BadInput(
            f"Expected finite numbers as coefficients, divisors and constant of a composition, got {number!r}; check "
            "where the number comes from."
        )


def head(classifier: Classifier, target: str) -> Composition:
    """One head of a classifier, by its exact name or one that is spelled alike (``"Big Nose"`` for ``big_nose``).

    Raises BadInput, with the nearest valid names, for an unknown target.
    """
    found = matching(target, classifier.targets)
    if found is None:
        raise BadInput(
            f"Classifier {classifier.name!r} has no target {target!r}; {nearest(target, classifier.targets)}."
        )
    return Composition(((1.0, Head(classifier, found)),))


def complement(base: Composition) -> Composition:
    """What falls as ``base`` rises.

    1 − s where the score s is a sigmoid of a sum of logits, as that of one head is; −s for other sums of
    probabilities. Either has minus the gradient of s.
    """
    return -(base.sum_of_logits or base)


def parse(text: str, classifiers: Mapping[str, Classifier] | Classifier, *, on: Scale = "probability") -> Composition:
    """``"smiling + 0.3*arched_eyebrows"`` to a composition; a number alone, as in ``"smiling - 0.1"``, is its constant.

    ``classifiers``: one classifier, or several by name; ``name:target`` picks among them, a bare target is looked up
    in order. ``on``: the scale, and with it the unit of the constant. A text that is a target's exact name is that
    target, and so is a number: with heads called 0 and 1, ``"0 + 0.3*1"`` adds them, and the constant 1 is written
    1.0. A name with other signs than letters, digits, dots and underscores stands in quotes, which are doubled inside
    it: ``"'a+b' + 0.3*'it''s'"``. Raises BadInput for unknown targets and for text that is no weighted sum.

    >>> clf = cfa.classifiers.load("embedded")
    >>> clf.compose("1 - smiling") == 1 - clf["smiling"]
    True
    """
    known = {classifiers.name: classifiers} if isinstance(classifiers, Classifier) else dict(classifiers)
    whole = _exactly(text.strip(), known)
    if whole is not None:
        return Composition(((1.0, whole),), on=on)
    terms: list[tuple[float, Head]] = []
    constant, position = 0.0, 0
    while position < len(text):
        alone, match = _next(text, position, known)
        if match is None or match.end() == position or (position and match.group(1) is None):
            raise BadInput(
                f"Cannot read {text!r} at position {position}: expected a weighted sum of targets such as "
                '"smiling + 0.3*arched_eyebrows", and names with other signs than letters, digits and underscores in '
                "quotes."
            )
        value = (-1.0 if match.group(1) == "-" else 1.0) * float(match.group(2) or 1.0)
        if alone:
            constant += value
        else:
            terms.append((value, _find(match.group(3), known)))
        position = match.end()
    if position and not terms:
        raise BadInput(f"Cannot read {text!r}: expected at least one target, got a number alone.")
    if not terms:
        raise BadInput('Expected a target or a sum such as "smiling + 0.3*young", got an empty composition.')
    return Composition(tuple(terms), on=on, constant=constant)


def _next(text: str, position: int, known: Mapping[str, Classifier]) -> tuple[bool, re.Match[str] | None]:
    """Whether a constant stands at ``position``, and its match or that of a term; a number that is a head is a term."""
    constant, term = _CONSTANT.match(text, position), _TERM.match(text, position)
    if constant and not _exactly(constant.group(2), known):
        return True, constant
    number = term and not _WORD.search(term.group(3))
    return False, None if number and term and not _exactly(term.group(3), known) else term


def _exactly(name: str, classifiers: Mapping[str, Classifier]) -> Head | None:
    """The head that bears this very name, alone or behind the name of its classifier."""
    for classifier in classifiers.values():
        if name in classifier.targets:
            return Head(classifier, name)
    for owner, classifier in classifiers.items():
        target = name.removeprefix(f"{owner}:")
        if target != name and target in classifier.targets:
            return Head(classifier, target)
    return None


def _find(name: str, classifiers: Mapping[str, Classifier]) -> Head:
    """The head of this name, which may stand in quotes, behind the name of its classifier, or be spelled otherwise."""
    exact = _exactly(unquoted(name), classifiers)
    if exact is not None:
        return exact
    valid = [target for classifier in classifiers.values() for target in classifier.targets]
    for owner, target in _readings(name):
        if owner is not None and owner not in classifiers:
            continue
        candidates = list(classifiers.values()) if owner is None else [classifiers[owner]]
        for classifier in candidates:
            found = matching(target, classifier.targets)
            if found is not None:
                return Head(classifier, found)
        valid = [t for c in candidates for t in c.targets]
    raise BadInput(f"No target {name!r}; {nearest(unquoted(name), valid)}.")


def _readings(name: str) -> Iterator[tuple[str | None, str]]:
    """What ``name`` may mean: a target, or an owner and its target on the sides of a colon outside of quotes."""
    yield None, unquoted(name)
    for match in _COLON.finditer(name):
        if match.group(1):
            yield unquoted(name[: match.start()]), unquoted(name[match.end() :])
