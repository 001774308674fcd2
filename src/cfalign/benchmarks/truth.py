"""The true effect of every attribute on every head of a classifier of faces, by intervention on rendered faces.

Where attributes are correlated, an attribute B has two different effects on a score A:

- *direct*: E[A | do(B = on)] − E[A | do(B = off)], the mean change over faces when only B is switched; all else stays
  the same, including pixel noise (``synthetic.effect``). The effects of an audit estimate this one.
- *total*: E[A | B on] − E[A | B off] over the same faces. It counts everything that is correlated with B as coming from
  B, and is the effect of B if B causes its correlates and nothing causes B. Without correlations the two are equal up
  to chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from cfalign._analysis.statistics import bootstrap_counts, generator, percentile_interval
from cfalign._errors import BadInput
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._results import Floats
from cfalign._runs.progress import ShowProgress, told_to, with_bars
from cfalign._types import Classifier
from cfalign.synthetic import ATTRIBUTES, INTERVENABLE, Faces, render, sample, switched

RESAMPLES = 1000


@dataclass(frozen=True)
class TrueEffect:
    """The effect of one attribute on one head, in probability, with 95 % bootstrap intervals over faces."""

    head: str
    attribute: str
    direct: float
    direct_low: float
    direct_high: float
    total: float
    """NaN where all faces or none have the attribute."""
    total_low: float
    total_high: float
    n: int
    """Number of faces."""


@dataclass(frozen=True)
class Truth:
    """The matrix of true effects."""

    effects: tuple[TrueEffect, ...]
    seed: int
    correlations: Mapping[tuple[str, str], float]

    def __repr__(self) -> str:
        return f"Truth({len(self.effects)} effects on {len({e.head for e in self.effects})} heads, seed {self.seed})"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        together = {f"{a}:{b}": phi for (a, b), phi in self.correlations.items()}
        strongest = {e.head: max((x for x in self.effects if x.head == e.head), key=_size) for e in self.effects}
        return {
            "headline": {f"strongest.{h}": e.direct for h, e in strongest.items()},
            "seed": self.seed,
            "correlations": together,
            "effects": [asdict(e) for e in self.effects],
        }

    def lines(self) -> list[str]:
        """For the terminal: the five strongest attributes per head."""
        interval = f"  {'95 % interval':<16}"
        rows = [f"{'head':<28}{'attribute':<22}{'direct':>8}{interval}{'total':>8}{interval}{'n':>5}"]
        for name in dict.fromkeys(e.head for e in self.effects):
            mine = sorted((e for e in self.effects if e.head == name), key=_size, reverse=True)
            rows += [
                f"{e.head:<28}{e.attribute:<22}{e.direct:>+8.3f}  {_interval(e.direct_low, e.direct_high):<16}"
                f"{e.total:>+8.3f}  {_interval(e.total_low, e.total_high):<16}{e.n:>5}"
                for e in mine[:5]
            ]
        return rows


@with_bars
def truth(
    classifier: Classifier,
    *,
    faces: int = 100,
    correlations: Mapping[tuple[str, str], float] | None = None,
    seed: int = 0,
    progress: ShowProgress = None,
) -> Truth:
    """Direct and total effect of every attribute of ``INTERVENABLE`` on every head of ``classifier``.

    ``correlations``: correlations of labels on the faces, as in ``synthetic.sample``. Raises BadInput for fewer than
    two faces.
    """
    progress = told_to(progress)
    if faces < 2:
        raise BadInput(f"Expected at least two faces to measure effects on, got {faces}.")
    drawn = sample(faces, seed=seed + 30_000, correlations=correlations)
    counts = bootstrap_counts(faces, resamples=RESAMPLES, rng=generator(seed, "truth"))
    labels = drawn.labels().double().numpy()
    rows: list[TrueEffect] = []
    with undisturbed(classifier):
        plain = _scores(classifier, drawn)
        for done, attribute in enumerate(INTERVENABLE):
            progress("interventions", done, len(INTERVENABLE))
            off, on = (_scores(classifier, side) for side in switched(drawn, attribute))
            direct = _with_interval(on - off, counts)
            total = _contrast(plain, labels[:, ATTRIBUTES.index(attribute)], counts)
            rows += _rows(classifier, attribute, direct, total, faces)
    progress("interventions", len(INTERVENABLE), len(INTERVENABLE))
    return Truth(tuple(rows), seed, dict(correlations or {}))


def _rows(classifier: Classifier, attribute: str, direct: Floats, total: Floats, n: int) -> list[TrueEffect]:
    """One row per head; ``direct`` and ``total``: value, low and high, [3, head]."""
    return [
        TrueEffect(
            head=target,
            attribute=attribute,
            direct=float(direct[0, k]),
            direct_low=float(direct[1, k]),
            direct_high=float(direct[2, k]),
            total=float(total[0, k]),
            total_low=float(total[1, k]),
            total_high=float(total[2, k]),
            n=n,
        )
        for k, target in enumerate(classifier.targets)
    ]


@torch.no_grad()
def _scores(classifier: Classifier, faces: Faces) -> Floats:
    scores: Floats = torch.sigmoid(respond(render(faces), [classifier])).double().numpy()
    return scores


def _with_interval(change: Floats, counts: Floats) -> Floats:
    """Mean, low and high over faces, [3, head]."""
    return np.stack([change.mean(axis=0), *percentile_interval(counts @ change / len(change))])


def _contrast(scores: Floats, has: Floats, counts: Floats) -> Floats:
    """Mean score with the attribute minus mean score without, low and high, [3, head]; NaN where a side is empty."""
    drawn = np.concatenate([np.ones((1, len(has))), counts])
    with np.errstate(divide="ignore", invalid="ignore"):
        sides = [(drawn * side) @ scores / (drawn @ side)[:, None] for side in (has, 1 - has)]
    contrast = sides[0] - sides[1]
    return np.stack([contrast[0], *percentile_interval(contrast[1:])])


def _size(found: TrueEffect) -> float:
    return abs(found.direct)


def _interval(low: float, high: float) -> str:
    return f"[{low:+.2f}, {high:+.2f}]"
