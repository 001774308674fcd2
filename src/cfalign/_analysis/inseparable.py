"""Attributes that cannot be told apart on the images at hand (not in the paper).

Where the counterfactuals of two attributes move each other, no regression can split what they share. Where two
attributes always go together on the images, a counterfactual of one alone is like none of them. Either way they form a
group, whose members are switched jointly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from scipy.stats import beta

from cfalign._analysis.alignment import Row
from cfalign._results import Floats, joint_name

MOVED = 0.5
"""Least share of a full switch by which the counterfactuals of each of two inseparable attributes move the other."""
APART = 0.04
"""Attributes always go together if, with 97.5 % certainty, fewer than this share of the images have only one of them;
of the images on which both heads are sure. At a correlation of 0.9 it is 0.05."""
SURE = 0.8
"""Least score of an attribute that is surely there; 1 − this is the largest of one that surely is not."""


@dataclass(frozen=True)
class Inseparable:
    """A group of attributes, in the order of the run."""

    attributes: tuple[str, ...]
    signs: tuple[int, ...]
    """1 where a member goes along with the first one, −1 where it is there when the first one is not."""

    @property
    def name(self) -> str:
        """The members as one text, such as ``heavy_makeup & wearing_lipstick`` or ``beard & not no_beard``."""
        return joint_name((a, sign > 0) for a, sign in zip(self.attributes, self.signs, strict=True))


def inseparable(
    rows: Sequence[Row],
    heads: Sequence[str],
    witnesses: Mapping[str, str],
    spans: Mapping[str, float],
    *,
    scores: Floats,
    names: Sequence[str],
) -> tuple[Inseparable, ...]:
    """The groups of attributes of which every two cannot be told apart.

    Args:
        rows: usable counterfactuals of the attributes, of one or both ways.
        heads: the columns of the rows.
        witnesses: the column that tells how far an attribute moved; by default the attribute's own head.
        spans: by how much the witness of an attribute changes in a full switch; 1 by default.
        scores: probability of each attribute by its reference head, [image, attribute], in the order of ``names``.
    """
    found = [n for n in names if any(r.base == n and len(r) for r in rows)]
    if len(found) < 2:
        return ()
    moved = movement([r for r in rows if len(r)], heads, found, witnesses, spans)
    mutual = np.minimum(np.abs(moved), np.abs(moved.T))
    together = going_together(scores[:, [list(names).index(n) for n in found]])
    strength = np.where(mutual >= MOVED, mutual, 0.0) + np.abs(together)
    signed = np.where(mutual >= MOVED, moved, together)
    return tuple(_group(members, found, signed) for members in _clusters(strength) if len(members) > 1)


def movement(
    rows: Sequence[Row],
    heads: Sequence[str],
    names: Sequence[str],
    witnesses: Mapping[str, str],
    spans: Mapping[str, float],
) -> Floats:
    """By what share of a full switch each attribute moves per full switch of the base, [base, attribute].

    Counterfactuals that raise the base count backwards. Witnesses tell how far either moved.
    """
    place = {head: i for i, head in enumerate(heads)}
    columns = [place[witnesses.get(n, n)] for n in names]
    span = np.array([spans.get(n, 1.0) for n in names])
    total = np.stack([_fall([r for r in rows if r.base == n], place[n], columns) for n in names]) / span
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.nan_to_num(total / np.diag(total)[:, None], posinf=0.0, neginf=0.0))


def _fall(rows: Sequence[Row], own: int, columns: Sequence[int]) -> Floats:
    changes = [row.change for row in rows]
    return np.asarray(sum(np.sign(c[:, own].sum()) * c[:, columns].sum(axis=0) for c in changes), dtype=np.float64)


def going_together(scores: Floats) -> Floats:
    """1 where two attributes always go together, −1 where one is always there without the other, else 0, [attribute,
    attribute]. 0 too where an attribute does not vary.
    """
    there, absent = (scores >= SURE).astype(float), (scores <= 1 - SURE).astype(float)
    apart, alike = there.T @ absent + absent.T @ there, there.T @ there + absent.T @ absent
    seldom = [_bound(count, apart + alike) < APART for count in (apart, alike)]
    varies = np.minimum(there.sum(axis=0), absent.sum(axis=0)) > APART * len(scores)
    found = np.where(seldom[0], 1.0, np.where(seldom[1], -1.0, 0.0)) * np.outer(varies, varies)
    np.fill_diagonal(found, 0.0)
    return np.asarray(found)


def _bound(count: Floats, images: Floats) -> Floats:
    """Upper end of the 95 % interval of a share (Clopper and Pearson 1934); 1 without images."""
    return np.asarray(np.where(images > count, beta.ppf(0.975, count + 1, np.maximum(images - count, 1)), 1.0))


def _clusters(strength: Floats) -> list[list[int]]:
    """Groups of which every two members are alike (complete linkage), the strongest pairs first."""
    most = strength.max() + 1
    distance = most - strength
    np.fill_diagonal(distance, 0.0)
    limit = most - MOVED / 2  # pairs that are alike are nearer, all others farther
    labels = fcluster(linkage(squareform(distance, checks=False), method="complete"), limit, criterion="distance")
    return [np.flatnonzero(labels == k).tolist() for k in np.unique(labels)]


def _group(members: Sequence[int], names: Sequence[str], signed: Floats) -> Inseparable:
    first = members[0]
    signs = (1, *(1 if signed[first, m] >= 0 else -1 for m in members[1:]))
    return Inseparable(tuple(names[m] for m in members), signs)
