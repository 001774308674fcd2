"""The incoming reading and its unmixing (not in the paper): what each attribute does to an audited head.

A counterfactual of attribute B moves other attributes too; the reference heads say by how much: Ψ[B, C]. The audited
head's responses r[B] = Σ_C Ψ[B, C] · e[C] are solved for the effects e under a prior that expects few of them (the
horseshoe): a classifier uses few attributes, and ridge regression spreads an effect over all that resemble it. The
intervals hold what the attributes leave unexplained in r, whether it comes from few images or from what a
counterfactual changes that no attribute sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cfalign.alignment import Row
from cfalign.errors import BadInput
from cfalign.results import Effect, Floats
from cfalign.statistics import (
    exchange_p,
    exchange_signs,
    generator,
    horseshoe,
    percentile_interval,
    q_values,
)


@dataclass(frozen=True)
class EffectOptions:
    """How effects are unmixed."""

    misfit: float = 0.03
    """What attributes usually leave unexplained of a response (standard deviation), before the data speak."""
    misfit_weight: float = 20.0
    """How many attributes' worth of evidence that is."""
    samples: int = 2000
    """Draws from the posterior of the effects."""
    ridge: float = 0.05
    """Penalty on Σ e² of the linear solution that is tested against the null."""
    draws: int = 2000
    """Draws of the exchange test against the null."""

    def __post_init__(self) -> None:
        for name in ("misfit", "misfit_weight", "ridge"):
            if not getattr(self, name) > 0:
                raise BadInput(f"{name} must be above 0, got {getattr(self, name)!r}.")
        for name in ("samples", "draws"):
            if not getattr(self, name) >= 100:
                raise BadInput(f"{name} must be at least 100, got {getattr(self, name)!r}.")


@dataclass(frozen=True)
class Sums:
    """Summed changes over images, for the counterfactuals of K attributes."""

    reference: Floats
    """[K, K] Σ change of reference head C over the counterfactuals of attribute B."""
    audited: Floats
    """[K, A]"""


def mixing(sums: Sums) -> Floats:
    """Ψ[B, C] = ΣΔC / ΣΔB, [K, K]; 1 on the diagonal."""
    return sums.reference / np.diagonal(sums.reference)[:, None]


def incoming(sums: Sums) -> Floats:
    """r[B, a] = ΣΔa / ΣΔB, [K, A]."""
    return sums.audited / np.diagonal(sums.reference)[:, None]


def unmix(psi: Floats, responses: Floats, *, ridge: float) -> Floats:
    """Effects e [..., K, A] that minimise ‖Ψ e − r‖² + ridge · ‖e‖²."""
    transposed = np.swapaxes(psi, -1, -2)
    solver = np.linalg.solve(transposed @ psi + ridge * np.eye(psi.shape[-1]), transposed)
    return np.asarray(solver @ responses, dtype=np.float64)


def effects(
    rows: Sequence[Row],
    heads: Sequence[str],
    audited: Sequence[str],
    *,
    outgoing: Mapping[tuple[str, str], float],
    options: EffectOptions,
    seed: int = 0,
) -> list[Effect]:
    """Effect of every attribute (base of a row, itself a head) on every audited head, with intervals and q-values.

    ``rows``: usable counterfactuals per attribute. ``outgoing``: ψ(audited → attribute) where known. A head is left out
    of its own explanation when it is among the attributes (a classifier audited against its own heads would otherwise
    explain itself by itself). An attribute without counterfactuals has NaN effect and n = 0.
    """
    used = [row for row in rows if len(row)]
    solved = _solved(used, heads, audited, options, seed)
    q = q_values(np.array([e[4] for e in solved.values()]))
    nan = float("nan")
    n_of = {row.base: len(row) for row in rows}
    known = {key: (*value[:4], float(q[i])) for i, (key, value) in enumerate(solved.items())}
    result = []
    for a in audited:
        for row in rows:
            if row.base == a:
                continue
            effect, low, high, raw, q_value = known.get((a, row.base), (nan,) * 5)
            out = outgoing.get((a, row.base), nan)
            result.append(Effect(a, row.base, effect, low, high, raw, out, n_of[row.base], q_value))
    return result


def _solved(
    rows: Sequence[Row], heads: Sequence[str], audited: Sequence[str], options: EffectOptions, seed: int
) -> dict[tuple[str, str], tuple[float, ...]]:
    """(audited, attribute) → (effect, low, high, incoming, p)."""
    if not rows or not audited:
        return {}
    names = [row.base for row in rows]
    columns = [list(heads).index(name) for name in names]
    targets = [list(heads).index(a) for a in audited]
    point = _sums(rows, columns, targets)
    psi, raw = mixing(point), incoming(point)
    mean, low, high = _posterior(rows, columns, targets, psi, raw, audited, options, seed)
    images, place = np.unique(np.concatenate([row.image for row in rows]), return_inverse=True)
    edges = np.cumsum([0, *(len(row) for row in rows)])
    signs = exchange_signs(len(images), draws=options.draws, rng=generator(seed, "effects exchange"))
    exchanged = [signs[:, place[a:b]] for a, b in pairwise(edges)]
    p = np.ones((len(rows), len(audited)))
    others = [j for j, a in enumerate(audited) if a not in names]
    every = list(range(len(rows)))
    designs = [(every, others)] if others else []
    designs += [([k for k in every if names[k] != a], [j]) for j, a in enumerate(audited) if a in names]
    for kept, some in designs:
        if kept:
            p[np.ix_(kept, some)] = _p_values(
                [rows[k] for k in kept], [columns[k] for k in kept], [targets[j] for j in some],
                psi[np.ix_(kept, kept)], [exchanged[k] for k in kept], ridge=options.ridge,
            )  # fmt: skip
    return {
        (a, name): (mean[j, k], low[j, k], high[j, k], raw[k, j], p[k, j])
        for j, a in enumerate(audited)
        for k, name in enumerate(names)
        if name != a
    }


def _posterior(
    rows: Sequence[Row],
    columns: Sequence[int],
    targets: Sequence[int],
    psi: Floats,
    raw: Floats,
    audited: Sequence[str],
    options: EffectOptions,
    seed: int,
) -> tuple[Floats, Floats, Floats]:
    """Mean and 95 % interval of every effect, [audited, attribute].

    The response to an attribute counts the less, the more it varies between images beyond what the attributes explain.
    """
    rough = unmix(psi, raw, ridge=options.ridge)
    variance = np.stack([_variance(row, k, columns, targets, rough) for k, row in enumerate(rows)])
    weight = 1 / (1 + variance.T / options.misfit**2)
    design = np.repeat(psi[None], len(audited), axis=0)
    for k, row in enumerate(rows):
        own = [j for j, a in enumerate(audited) if a == row.base]
        weight[own, k] = 0
        design[own, :, k] = 0
    parts = []
    for at in range(0, len(audited), _TOGETHER):
        some = slice(at, at + _TOGETHER)
        drawn = horseshoe(
            design[some], raw.T[some], weight[some],
            noise=options.misfit, noise_weight=options.misfit_weight, samples=options.samples,
            streams=[generator(seed, "effects", a) for a in audited[some]],
        )  # fmt: skip
        parts.append((drawn.mean(axis=0), *percentile_interval(drawn)))
    mean, low, high = (np.concatenate(part) for part in zip(*parts, strict=True))
    return mean, low, high


_TOGETHER = 16
"""Audited heads solved at once; bounds the memory of their draws."""


def _variance(row: Row, k: int, columns: Sequence[int], targets: Sequence[int], rough: Floats) -> Floats:
    """Sampling variance of the response to attribute k beyond what the attributes explain, [audited]; that of a single
    image is unknown and taken as large.
    """
    change = row.after - row.before
    if len(row) < 2:
        return np.full(len(targets), 0.25)
    beyond = change[:, targets] - change[:, columns] @ rough
    return np.asarray(len(row) * beyond.var(axis=0, ddof=1) / change[:, columns[k]].sum() ** 2)


def _sums(rows: Sequence[Row], columns: Sequence[int], targets: Sequence[int]) -> Sums:
    total = np.stack([(row.after - row.before)[:, [*columns, *targets]].sum(axis=0) for row in rows])
    return Sums(total[:, : len(columns)], total[:, len(columns) :])


def _p_values(
    rows: Sequence[Row],
    columns: Sequence[int],
    targets: Sequence[int],
    psi: Floats,
    signs: Sequence[Floats],
    *,
    ridge: float,
) -> Floats:
    """P-values of the linear effects against those that the random-direction control would give, [attribute, audited].

    An image is exchanged in all rows together: what it does to the audited head is shared between them. 1 where the
    control's effect is as large or larger.
    """
    observed, control, drawn = [], [], []
    for column, row, sign in zip(columns, rows, signs, strict=True):
        base = (row.after - row.before)[:, column].sum()
        change = (row.after - row.before)[:, targets] / base
        null = np.nan_to_num((row.null - row.before)[:, targets] / base)
        observed.append(change.sum(axis=0))
        control.append(null.sum(axis=0))
        drawn.append(sign @ (change - null))
    ours, theirs, exchanged = (unmix(psi, np.stack(part, axis=-2), ridge=ridge) for part in (observed, control, drawn))
    p = exchange_p(ours - theirs, exchanged)
    return np.where(np.abs(ours) > np.abs(theirs), p, 1.0)
