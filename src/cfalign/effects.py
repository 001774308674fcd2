"""The incoming reading and its unmixing (not in the paper): what each attribute does to an audited head.

A counterfactual of attribute B moves other attributes too; the reference heads say by how much: Ψ[B, C]. The audited
head's responses r[B] = Σ_C Ψ[B, C] · e[C] are solved for the effects e with a preference for few of them (lasso): a
classifier uses few attributes, and ridge regression spreads an effect over all that resemble it.
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
    bootstrap_counts,
    exchange_p,
    exchange_signs,
    generator,
    percentile_interval,
    q_values,
)


@dataclass(frozen=True)
class EffectOptions:
    """How effects are unmixed."""

    sparsity: float = 0.04
    """Penalty on Σ |e|: a classifier uses few attributes. It shrinks large effects."""
    ridge: float = 0.05
    """Penalty on Σ e² of the linear solution that is tested against the null."""
    resamples: int = 1000
    draws: int = 2000

    def __post_init__(self) -> None:
        if not self.sparsity >= 0:
            raise BadInput(f"sparsity must be at least 0, got {self.sparsity!r}.")
        if not self.ridge > 0:
            raise BadInput(f"ridge must be above 0, got {self.ridge!r}.")


@dataclass(frozen=True)
class Sums:
    """Summed changes over images, for the counterfactuals of K attributes; leading axes may hold resamples."""

    reference: Floats
    """[..., K, K] Σ change of reference head C over the counterfactuals of attribute B."""
    audited: Floats
    """[..., K, A]"""


def mixing(sums: Sums) -> Floats:
    """Ψ[B, C] = ΣΔC / ΣΔB, [..., K, K]; 1 on the diagonal."""
    return sums.reference / np.diagonal(sums.reference, axis1=-2, axis2=-1)[..., None]


def incoming(sums: Sums) -> Floats:
    """r[B, a] = ΣΔa / ΣΔB, [..., K, A]."""
    return sums.audited / np.diagonal(sums.reference, axis1=-2, axis2=-1)[..., None]


def unmix(psi: Floats, responses: Floats, *, ridge: float) -> Floats:
    """Effects e [..., K, A] that minimise ‖Ψ e − r‖² + ridge · ‖e‖²."""
    transposed = np.swapaxes(psi, -1, -2)
    solver = np.linalg.solve(transposed @ psi + ridge * np.eye(psi.shape[-1]), transposed)
    return np.asarray(solver @ responses, dtype=np.float64)


def unmix_sparsely(psi: Floats, responses: Floats, *, sparsity: float, sweeps: int = 300) -> Floats:
    """Effects e [..., K, A] that minimise ½‖Ψ e − r‖² + sparsity · Σ|e|, by coordinate descent over all at once.

    Without a penalty there is a closed form, and coordinate descent would need thousands of sweeps.
    """
    if sparsity == 0:
        return np.asarray(np.linalg.pinv(psi) @ responses, dtype=np.float64)
    transposed = np.swapaxes(psi, -1, -2)
    gram, rest = transposed @ psi, transposed @ responses
    effect = np.zeros_like(rest)
    for _ in range(sweeps):
        furthest = 0.0
        for k in range(psi.shape[-1]):
            own = np.maximum(gram[..., k, k], 1e-12)[..., None]
            pull = rest[..., k, :] + own * effect[..., k, :]
            step = np.sign(pull) * np.maximum(np.abs(pull) - sparsity, 0) / own - effect[..., k, :]
            effect[..., k, :] += step
            rest -= gram[..., :, k, None] * step[..., None, :]
            furthest = max(furthest, float(np.abs(step).max(initial=0.0)))
        if furthest < 1e-7:
            break
    return effect


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
    solved: dict[tuple[str, str], tuple[float, ...]] = {}
    for own in sorted({a for a in audited if a in {r.base for r in used}}):
        solved |= _effects_on([r for r in used if r.base != own], heads, [own], options, seed)
    others = [a for a in audited if a not in {r.base for r in used}]
    solved |= _effects_on(used, heads, others, options, seed)
    q = q_values(np.array([e[5] for e in solved.values()]))
    nan = float("nan")
    n_of = {row.base: len(row) for row in rows}
    known = {key: (*value[:5], float(q[i])) for i, (key, value) in enumerate(solved.items())}
    result = []
    for a in audited:
        for row in rows:
            if row.base == a:
                continue
            effect, low, high, raw, _, q_value = known.get((a, row.base), (nan,) * 6)
            out = outgoing.get((a, row.base), nan)
            result.append(Effect(a, row.base, effect, low, high, raw, out, n_of[row.base], q_value))
    return result


def _effects_on(
    rows: Sequence[Row], heads: Sequence[str], audited: Sequence[str], options: EffectOptions, seed: int
) -> dict[tuple[str, str], tuple[float, ...]]:
    """(audited, attribute) → (effect, low, high, incoming, null effect, p)."""
    if not rows or not audited:
        return {}
    columns = [list(heads).index(row.base) for row in rows]
    targets = [list(heads).index(a) for a in audited]
    point = _sums(rows, columns, targets, None)
    psi, raw = mixing(point), incoming(point)
    effect = unmix_sparsely(psi, raw, sparsity=options.sparsity)
    images, place = np.unique(np.concatenate([row.image for row in rows]), return_inverse=True)
    edges = np.cumsum([0, *(len(row) for row in rows)])
    places = [place[a:b] for a, b in pairwise(edges)]
    counts = bootstrap_counts(len(images), resamples=options.resamples, rng=generator(seed, "effects"))
    drawn = _sums(rows, columns, targets, [counts[:, p] for p in places])
    with np.errstate(divide="ignore", invalid="ignore"):
        samples = np.nan_to_num(mixing(drawn)), np.nan_to_num(incoming(drawn))
    low, high = percentile_interval(unmix_sparsely(*samples, sparsity=options.sparsity))
    signs = exchange_signs(len(images), draws=options.draws, rng=generator(seed, "effects exchange"))
    null, p = _null(rows, columns, targets, psi, [signs[:, p] for p in places], ridge=options.ridge)
    return {
        (a, row.base): (effect[k, j], low[k, j], high[k, j], raw[k, j], null[k, j], p[k, j])
        for j, a in enumerate(audited)
        for k, row in enumerate(rows)
    }


def _sums(rows: Sequence[Row], columns: Sequence[int], targets: Sequence[int], counts: Sequence[Floats] | None) -> Sums:
    both = [*columns, *targets]
    stacked = []
    for k, row in enumerate(rows):
        change = (row.after - row.before)[:, both]
        stacked.append(change.sum(axis=0) if counts is None else counts[k] @ change)
    total = np.stack(stacked, axis=-2)
    return Sums(total[..., : len(columns)], total[..., len(columns) :])


def _null(
    rows: Sequence[Row],
    columns: Sequence[int],
    targets: Sequence[int],
    psi: Floats,
    signs: Sequence[Floats],
    *,
    ridge: float,
) -> tuple[Floats, Floats]:
    """Effects that the random-direction control would give, and p-values of ours against them.

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
    return theirs, np.where(np.abs(ours) > np.abs(theirs), p, 1.0)
