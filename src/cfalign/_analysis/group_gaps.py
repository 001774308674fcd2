"""Group gaps and their parts (not in the paper): why a classifier answers two groups of images differently.

An audited head answers images with an attribute and images without differently if it uses the attribute, or anything
that goes along with it on these images. With effects as coefficients the difference of the means is a sum of parts
(Oaxaca 1973, Blinder 1973): Σ_C e[C] · (how much more of C there is in the one group). The part of the head's own
concept is left out, because it is what the head is for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cfalign._results import Effect, Floats, GroupGap

NAMED = 3
"""How many parts of a gap are named at most."""
SMALLEST = 0.01
"""The smallest part that is named."""


@dataclass(frozen=True)
class Groups:
    """The attributes of images, as their reference heads and judges see them."""

    attributes: tuple[str, ...]
    has: NDArray[np.bool_]
    """Whether an attribute's reference head predicts it, [image, attribute]."""
    scores: Floats
    """Score of each attribute's witness, finite, [image, attribute]."""
    own_scores: Floats
    """Score of each attribute's reference head, finite, [image, attribute]."""

    @cached_property
    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Images with each attribute, and without."""
        return self.has.sum(axis=0), (~self.has).sum(axis=0)

    @cached_property
    def differences(self) -> Floats:
        """Mean score of the images with an attribute minus that of the others, [attribute present, attribute]; NaN
        rows where a group is empty.
        """
        return self.contrast(self.scores)

    @property
    def spans(self) -> dict[str, float]:
        """The difference of a full switch of each attribute in its score; 1 where it is not known to be above 0."""
        own = np.diag(self.differences)
        return {a: float(x) if x > 0 else 1.0 for a, x in zip(self.attributes, own, strict=True)}

    @cached_property
    def together(self) -> dict[tuple[str, str], float]:
        """(present, attribute) → how much more of the attribute there is then, as a share of a full switch."""
        share = self.differences / np.array(list(self.spans.values()))
        np.fill_diagonal(share, np.where(np.isnan(np.diag(share)), np.nan, 1.0))
        return {
            (b, c): float(share[i, k]) for i, b in enumerate(self.attributes) for k, c in enumerate(self.attributes)
        }

    def contrast(self, scores: Floats) -> Floats:
        """Mean of scores [image, column] over images with each attribute minus that over the others, [attribute,
        column]; NaN where a group is empty.
        """
        here, there = self.sizes
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.has.T @ scores / here[:, None] - (~self.has).T @ scores / there[:, None])


def group_gaps(
    effects: Sequence[Effect],
    carried: Mapping[tuple[str, str], tuple[float, float, float]],
    groups: Groups,
    scores: Mapping[str, Floats],
) -> list[GroupGap]:
    """The gap of every effect's head and attribute, in the order of ``effects``; NaN where it is unknown.

    Args:
        carried: (audited, attribute) → mean, low and high of what the effects add up to, as ``effects.effects`` gives.
        scores: of every audited head on the images of ``groups``, [image].
    """
    names = list(scores)
    observed = groups.contrast(np.stack([scores[a] for a in names], axis=1)) if names else np.zeros((0, 0))
    sizes = {a: (int(n), int(m)) for a, n, m in zip(groups.attributes, *groups.sizes, strict=True)}
    foreign: dict[str, list[Effect]] = {}
    for e in effects:
        foreign.setdefault(e.audited, []).extend([] if e.own else [e])
    rows = []
    for e in effects:
        gap, low, high = carried.get((e.audited, e.attribute), (np.nan,) * 3)
        direct = 0.0 if e.own else e.effect
        parts = _parts(e.attribute, foreign[e.audited], groups)
        n_with, n_without = sizes[e.attribute]
        rows.append(
            GroupGap(
                audited=e.audited,
                attribute=e.attribute,
                gap=gap,
                ci_low=low,
                ci_high=high,
                direct=direct if np.isfinite(gap) else np.nan,
                indirect=gap - direct,
                observed=float(observed[groups.attributes.index(e.attribute), names.index(e.audited)]),
                n_with=n_with,
                n_without=n_without,
                through=_named(parts) if np.isfinite(gap) else "",
            )
        )
    return rows


def _parts(attribute: str, effects: Sequence[Effect], groups: Groups) -> dict[str, float]:
    """What each other effect adds to the gap between images with the attribute and images without."""
    others = [e for e in effects if e.attribute != attribute]
    return {e.attribute: e.effect * groups.together[attribute, e.attribute] for e in others}


def _named(parts: Mapping[str, float]) -> str:
    """The largest parts with their sizes, as one text."""
    large = sorted((x for x in parts.items() if abs(x[1]) >= SMALLEST), key=lambda x: -abs(x[1]))
    return "; ".join(f"{name} {size:+.2f}" for name, size in large[:NAMED])
