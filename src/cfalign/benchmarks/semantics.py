"""Are counterfactuals semantic or adversarial? An oracle of another seed and architecture judges them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cfalign import autoencoders, classifiers
from cfalign._analysis.statistics import bootstrap_counts, generator, percentile_interval
from cfalign._counterfactuals.methods import latent_shift
from cfalign._heads.composition import head
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._results import Counterfactuals, Floats
from cfalign._runs.progress import Progress, silent
from cfalign.synthetic import DERIVED, INTERVENABLE, render, sample

RESAMPLES = 1000


@dataclass(frozen=True)
class HeadSemantics:
    """What the oracle says of the counterfactuals of one head."""

    head: str
    n: int
    landed: float
    """Share of searches that landed."""
    base_change: float
    """Mean change of the base probability."""
    oracle_change: float
    """Mean change of the oracle's probability of the same attribute."""
    ci_low: float
    ci_high: float
    rank: int
    """Place of the head's own factor among all factors by |mean change of the oracle's probability|; 1 is best."""
    runner_up: str
    """The factor that moved most among the others."""
    runner_up_change: float


@dataclass(frozen=True)
class Semantics:
    """The benchmark's result."""

    heads: tuple[HeadSemantics, ...]
    seed: int

    @property
    def headline(self) -> dict[str, int]:
        """Programs rely on the names."""
        return {"heads": len(self.heads), "rank1_heads": sum(h.rank == 1 for h in self.heads)}

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"headline": self.headline, "seed": self.seed, "heads": [vars(h) for h in self.heads]}

    def lines(self) -> list[str]:
        """For the terminal."""
        rows = [
            f"{'head':<22}{'n':>4}{'landed':>8}{'base':>8}{'oracle':>8}  {'95 % interval':<16}{'rank':>5}  runner-up"
        ]
        for h in self.heads:
            interval = f"[{h.ci_low:+.2f}, {h.ci_high:+.2f}]"
            rows.append(
                f"{h.head:<22}{h.n:>4}{h.landed:>8.0%}{h.base_change:>+8.2f}{h.oracle_change:>+8.2f}  {interval:<16}"
                f"{h.rank:>5}  {h.runner_up} {h.runner_up_change:+.2f}"
            )
        ones = self.headline
        return [
            *rows,
            f"The oracle sees the head's own factor move most in {ones['rank1_heads']} of {ones['heads']} heads.",
        ]


def semantics(*, seed: int = 0, images: int = 100, progress: Progress = silent) -> Semantics:
    """Judge the counterfactuals of every embedded head of a single factor by the embedded oracle.

    ``images``: the most counterfactuals per head. They start from faces with independent attributes that no model was
    trained on.
    """
    reference, oracle = classifiers.load("embedded"), classifiers.load("embedded:oracle")
    autoencoder = autoencoders.load("embedded")
    faces = render(sample(6 * images, seed=seed + 10_000))
    factors = [name for name in reference.targets if name in INTERVENABLE and name not in DERIVED]
    columns = [oracle.targets.index(name) for name in factors]
    with undisturbed(reference, oracle, autoencoder):
        scores = torch.sigmoid(respond(autoencoder.decode(autoencoder.encode(faces)), [reference]))
    results = []
    for done, name in enumerate(factors):
        progress("heads", done, len(factors))
        positive = scores[:, reference.targets.index(name)] >= 0.5
        found = latent_shift(faces[positive][:images], head(reference, name), autoencoder=autoencoder)
        with undisturbed(oracle):
            after, before = (torch.sigmoid(respond(x, [oracle])) for x in (found.images, found.reconstructions))
        change = (after - before)[:, columns].double().numpy()
        results.append(head_semantics(name, factors, found, change, seed))
    progress("heads", len(factors), len(factors))
    return Semantics(tuple(results), seed)


def head_semantics(
    name: str, factors: Sequence[str], found: Counterfactuals, change: Floats, seed: int
) -> HeadSemantics:
    """What the oracle says of one head's counterfactuals.

    ``factors``: names of the columns of ``change``. ``change``: change of the oracle's probabilities, [image, factor].
    Only searches that landed count.
    """
    landed = np.array([outcome.landed for outcome in found.outcomes])
    base_change, change = (found.base_after - found.base_before)[landed], change[landed]
    own = factors.index(name)
    mean = change.mean(axis=0)
    order = np.argsort(-np.abs(mean), kind="stable")
    counts = bootstrap_counts(len(change), resamples=RESAMPLES, rng=generator(seed, "semantics", name))
    low, high = percentile_interval(counts @ change[:, own : own + 1] / len(change))
    # a factor that moves in the wrong direction is not recognised, no matter how far it moves
    rank = int(np.flatnonzero(order == own)[0]) + 1 if mean[own] < 0 else len(factors)
    other = int(next(i for i in order if i != own))
    return HeadSemantics(
        head=name,
        n=len(change),
        landed=float(landed.mean()),
        base_change=float(base_change.mean()),
        oracle_change=float(mean[own]),
        ci_low=float(low[0]),
        ci_high=float(high[0]),
        rank=rank,
        runner_up=factors[other],
        runner_up_change=float(mean[other]),
    )
