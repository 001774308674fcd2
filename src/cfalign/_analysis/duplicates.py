"""Heads that give one answer: copies of each other, or complements, as the two classes of a softmax are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from cfalign._results import Duplicate, Effect, Floats, GroupGap, own_concept

TOLERANCE = 1e-3
"""Logits count as equal up to this difference, and this share of their size."""
SPREAD = 0.1
"""Range of a logit below which a head is constant: constant heads are no copies of each other."""
SATURATED = 12.0
"""|logit| beyond which only the side is compared: float32 knows no more of a probability."""
TWINS = 0.999
"""Least correlation of the logits of a head and its own concept in an attribute that is the same network."""
KNOWN = 4
"""Answers below saturation that two heads must share."""
_FIRST = 64
_BLOCK = 64


def duplicates(scores: Floats, heads: Sequence[str], *, first: Collection[str] = ()) -> tuple[Duplicate, ...]:
    """Every head that is a copy or the complement of another one on all images, named by the one that stands for both.

    Args:
        scores: probabilities [answer, head]; a head with a score outside [0, 1] or without a number is no duplicate.
        first: heads that stand for the others before all; then short names before long ones.

    A head of another classifier with the same target is its own concept and no duplicate.
    """
    if not len(scores):
        return ()
    logits = _logits(scores)
    usable = np.flatnonzero(np.isfinite(logits).all(axis=0) & (np.ptp(logits, axis=0) > SPREAD)).tolist()
    order = sorted(usable, key=lambda i: (heads[i] not in first, len(heads[i]), i))
    found: dict[int, Duplicate] = {}
    for one, other in _candidates(logits[:_FIRST], order):
        if one in found or other in found or own_concept(heads[one], heads[other]):
            continue
        for complement in (False, True):
            if _equal(logits[:, one], -logits[:, other] if complement else logits[:, other]):
                found[other] = Duplicate(head=heads[other], of=heads[one], complement=complement)
                break
    return tuple(found[i] for i in sorted(found))


def _logits(scores: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = (scores >= 0) & (scores <= 1)
        return np.where(inside, np.clip(logit(np.clip(scores, 0, 1)), -36.0, 36.0), np.nan)


def _candidates(logits: Floats, order: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs that agree on some answers, the one that stands for the other first."""
    size = np.abs(logits[:, list(order)])
    pairs = []
    for at in range(0, len(order), _BLOCK):
        block = size[:, at : at + _BLOCK]
        near = np.ones((block.shape[1], size.shape[1]), dtype=bool)
        for mine, theirs in zip(block, size, strict=True):
            near &= _near(mine[:, None], theirs[None, :])
        pairs += [(order[at + i], order[j]) for i, j in np.argwhere(near) if at + i < j]
    rank = {head: place for place, head in enumerate(order)}
    return sorted(((int(i), int(j)) for i, j in pairs), key=lambda pair: (rank[pair[0]], rank[pair[1]]))


def _near(one: Floats, other: Floats) -> NDArray[np.bool_]:
    bound = TOLERANCE * (1 + np.abs(one))
    return (np.abs(one - other) <= bound) | ((one > SATURATED) & (other > SATURATED))


def _equal(one: Floats, other: Floats) -> bool:
    same_side = _near(one, other) | ((one < -SATURATED) & (other < -SATURATED))
    return bool(same_side.all()) and int((np.abs(one) < SATURATED).sum()) >= KNOWN


def twins(
    scores: Floats, heads: Sequence[str], audited: Sequence[str], attributes: Sequence[str], found: Sequence[Duplicate]
) -> dict[str, str]:
    """The attribute that gives the very answers of an audited head, its own concept or a duplicate of it.

    Two networks never agree so well: their logits go along with each other with r of at least ``TWINS``. A bank's
    images have 8 bits, so the same network is not equal to itself on them.

    ``scores``: probabilities [answer, head]. ``found``: their duplicates, among which no own concepts are.
    """
    with np.errstate(invalid="ignore"):
        logits = np.clip(_logits(scores), -SATURATED, SATURATED)
    place, same = {head: i for i, head in enumerate(heads)}, standing_for(found)

    def alike(a: str, b: str) -> bool:
        if not own_concept(a, b):
            return False
        one, other = logits[:, place[a]], logits[:, place[b]]
        known = len(one) > 2 and bool(np.isfinite(one + other).all() and min(np.ptp(one), np.ptp(other)) > SPREAD)
        return known and bool(np.corrcoef(one, other)[0, 1] >= TWINS)

    pairs = [(a, b) for a in audited for b in attributes if a != b]
    return {a: b for a, b in pairs if same.get(a) == b or alike(a, b)}


def standing_for(found: Sequence[Duplicate]) -> dict[str, str]:
    """The head that stands for each duplicate."""
    return {d.head: d.of for d in found}


def repeated(found: Sequence[Duplicate], among: Sequence[str]) -> set[str]:
    """The heads of ``among`` that give the answer of another one of them: all but one of each group.

    A copy of a head that is not among them repeats nothing.
    """
    same = standing_for(found)
    groups: dict[str, list[str]] = {}
    for name in among:
        groups.setdefault(same.get(name, name), []).append(name)
    told = {stands if stands in group else group[0] for stands, group in groups.items()}
    return set(among) - told


Row = TypeVar("Row", Effect, GroupGap)


def with_copies(
    found: Sequence[Row],
    copies: Sequence[Duplicate],
    *,
    audited: Sequence[str],
    attributes: Sequence[str],
    copied: Callable[[Row, Duplicate], Row],
) -> list[Row]:
    """The rows of every audited head and attribute, where attributes that are copies of another were left out.

    ``copies``: these attributes. ``copied``: makes the row of one from that of the attribute that stands for it.
    """
    known = {(row.audited, row.attribute): row for row in found}
    of = {d.head: d for d in copies}
    rows = []
    for a, name in product(audited, attributes):
        copy = of.get(name)
        row = known.get((a, name if copy is None else copy.of))
        if row is not None:
            rows.append(row if copy is None else copied(row, copy))
    return rows


def copied_effect(e: Effect, copy: Duplicate) -> Effect:
    """The effect of a copy: the same numbers, of a complement with the other sign. Its readings are its own."""
    if not copy.complement:
        return replace(e, attribute=copy.head)
    return replace(e, attribute=copy.head, effect=-e.effect, ci_low=-e.ci_high, ci_high=-e.ci_low)


def copied_gap(g: GroupGap, copy: Duplicate) -> GroupGap:
    """The gap of a copy, likewise."""
    if not copy.complement:
        return replace(g, attribute=copy.head)
    return replace(
        g,
        attribute=copy.head,
        gap=-g.gap,
        ci_low=-g.ci_high,
        ci_high=-g.ci_low,
        direct=-g.direct,
        indirect=-g.indirect,
        observed=-g.observed,
        n_with=g.n_without,
        n_without=g.n_with,
        through="; ".join(_turned(part) for part in g.through.split("; ") if part),
    )


def _turned(part: str) -> str:
    """A part such as ``young +0.21`` with the other sign."""
    name, _, size = part.rpartition(" ")
    return f"{name} {-float(size):+.2f}"
