"""The incoming reading and its unmixing (not in the paper): what each attribute does to an audited head.

Counterfactuals lower an attribute where it is present and raise it where it is absent, so that their mean stands for
all images: on confounded images, removing an attribute does something else than adding it.

A counterfactual of attribute B moves other attributes too. An independent judge tells by how much, since no
counterfactual was made against it: Ψ[B, C] = ΣΔC / ΣΔB over the counterfactuals of B. The responses of the audited
head, r[B] = Σ_C Ψ[B, C] · e[C], are solved for the effects e. Their prior expects few of them (the horseshoe), because
a classifier uses few attributes; ridge regression spreads an effect over all attributes that resemble it.

The intervals contain two errors. One is the part of r that the attributes do not explain, either because there are few
images or because a counterfactual changes something that no attribute describes. The other is that a counterfactual
may switch an attribute further, or less far, than its judge says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cfalign._analysis.alignment import Row
from cfalign._analysis.options import EffectOptions
from cfalign._analysis.statistics import exchange_p, exchange_signs, generator, horseshoe, percentile_interval, q_values
from cfalign._results import Effect, Floats, own_concept


@dataclass(frozen=True)
class Responses:
    """Mean responses to the counterfactuals of each row, which are those of one attribute and one way."""

    mixing: Floats
    """Ψ[row, attribute] = ΣΔ of the witness of the attribute / ΣΔ of the row's own head."""
    audited: Floats
    """r[row, audited] = ΣΔ of the audited head / ΣΔ of the row's own head."""


@dataclass(frozen=True)
class Unmixed:
    """The solution."""

    effects: list[Effect]
    carried: dict[tuple[str, str], tuple[float, float, float]]
    """(audited, attribute) → the sum of the head's effects between images with the attribute and images without,
    without its own concept: mean and 95 % interval; see ``group_gaps``. No entry where unknown."""


def responses(rows: Sequence[Row], heads: Sequence[str], watched: Sequence[str], audited: Sequence[str]) -> Responses:
    """The responses to the counterfactuals of each row. ``watched``: each attribute's witness, one of ``heads``."""
    columns, targets = ([list(heads).index(h) for h in names] for names in (watched, audited))
    total = np.stack([(row.after - row.before).sum(axis=0) for row in rows])
    own = total[np.arange(len(rows)), [list(heads).index(row.base) for row in rows]]
    relative = total / own[:, None]
    return Responses(relative[:, columns], relative[:, targets])


def unmix(psi: Floats, responses: Floats, *, ridge: float) -> Floats:
    """Effects e [..., K, A] that minimise ‖Ψ e − r‖² + ridge · ‖e‖²; Ψ [..., row, K], r [..., row, A]."""
    transposed = np.swapaxes(psi, -1, -2)
    solver = np.linalg.solve(transposed @ psi + ridge * np.eye(psi.shape[-1]), transposed)
    return np.asarray(solver @ responses, dtype=np.float64)


def effects(
    rows: Sequence[Row],
    heads: Sequence[str],
    audited: Sequence[str],
    *,
    outgoing: Mapping[tuple[str, str], float] | None = None,
    witnesses: Mapping[str, str] | None = None,
    spans: Mapping[str, float] | None = None,
    together: Mapping[tuple[str, str], float] | None = None,
    same: Mapping[str, str] | None = None,
    options: EffectOptions,
    seed: int = 0,
) -> Unmixed:
    """Effect of every attribute (base of a row, itself a head) on every audited head, with intervals and q-values.

    An effect is the mean change of the audited score when the attribute is switched from absent to present.

    A head is left out of its own explanation when it is among the attributes (a classifier audited against its own
    heads would otherwise explain itself by itself). An attribute without counterfactuals has NaN effect and n = 0.

    Args:
        rows: usable counterfactuals, one row per attribute and way (lowered, raised).
        heads: the columns of the rows.
        outgoing: ψ(audited → attribute) where known.
        witnesses: the column that tells how far an attribute moved; by default the attribute's own head.
        spans: the mean score of images with an attribute minus that of images without, by its witness; 1 by default.
        together: (present, attribute) → how much more of the attribute there is where the first is present, as a share
            of a full switch. Without it ``carried`` is empty.
        same: the head that stands for a copy or a complement of it: these count as one head, so an audited head has no
            effect of its own complement.
    """
    attributes = tuple(dict.fromkeys(row.base for row in rows))
    problem = _posed(rows, heads, audited, witnesses or {}, spans or {}, together or {}, same or {})
    solved = _solved(problem, options, seed) if problem.rows and audited else {}
    q = q_values(np.array([s.p for s in solved.values()]))
    q_of = dict(zip(solved, q.tolist(), strict=True))
    n_of = {a: sum(len(row) for row in rows if row.base == a) for a in attributes}
    out = outgoing or {}
    pairs = [(a, b) for a in audited for b in attributes if not problem.itself(a, b)]
    result = [
        _effect(*pair, solved.get(pair, _UNSOLVED), out.get(pair, _NAN), n_of[pair[1]], q_of.get(pair, _NAN))
        for pair in pairs
    ]
    return Unmixed(result, {pair: s.carried for pair, s in solved.items() if np.isfinite(s.carried[0])})


def _posed(
    rows: Sequence[Row],
    heads: Sequence[str],
    audited: Sequence[str],
    witnesses: Mapping[str, str],
    spans: Mapping[str, float],
    together: Mapping[tuple[str, str], float],
    same: Mapping[str, str],
) -> _Problem:
    used = [row for row in rows if len(row)]
    found = tuple(dict.fromkeys(row.base for row in used))
    return _Problem(
        rows=used,
        heads=heads,
        attributes=found,
        watched=[witnesses.get(a, a) for a in found],
        audited=audited,
        spans=np.array([spans.get(a, 1.0) for a in found]),
        together=np.array([[together.get((b, a), np.nan) for a in found] for b in found]),
        same=same,
    )


def _effect(audited: str, attribute: str, numbers: _Solved, outgoing: float, n: int, q: float) -> Effect:
    effect, ci_low, ci_high = numbers.effect
    return Effect(
        audited=audited,
        attribute=attribute,
        effect=effect,
        ci_low=ci_low,
        ci_high=ci_high,
        incoming=numbers.incoming,
        outgoing=outgoing,
        n=n,
        q=q,
    )


@dataclass(frozen=True)
class _Problem:
    """Usable rows, their columns, and the attributes and heads whose effects are sought."""

    rows: Sequence[Row]
    heads: Sequence[str]
    attributes: Sequence[str]
    watched: Sequence[str]
    audited: Sequence[str]
    spans: Floats
    together: Floats
    """[attribute present, attribute]"""
    same: Mapping[str, str]
    """The head that stands for a copy or a complement of it."""

    def itself(self, audited: str, attribute: str) -> bool:
        """Whether the attribute is the audited head under this name or another."""
        return self.same.get(audited, audited) == self.same.get(attribute, attribute)

    @property
    def columns(self) -> list[int]:
        """The column of each attribute's witness."""
        return [list(self.heads).index(h) for h in self.watched]

    @property
    def own(self) -> list[int]:
        """The column of each row's own head."""
        return [list(self.heads).index(row.base) for row in self.rows]

    @property
    def targets(self) -> list[int]:
        return [list(self.heads).index(a) for a in self.audited]

    @property
    def foreign(self) -> Floats:
        """1 where the attribute is not the audited head's own concept, 0 where it is, [audited, attribute]."""
        return np.array([[float(not own_concept(a, name)) for name in self.attributes] for a in self.audited])

    def rows_of(self, attribute: str) -> list[int]:
        return [k for k, row in enumerate(self.rows) if row.base == attribute]


@dataclass(frozen=True)
class _Solved:
    """The numbers of one audited head and one attribute."""

    effect: tuple[float, float, float]
    carried: tuple[float, float, float]
    incoming: float
    p: float


_NAN = float("nan")
_UNSOLVED = _Solved(effect=(_NAN,) * 3, carried=(_NAN,) * 3, incoming=_NAN, p=_NAN)


def _solved(problem: _Problem, options: EffectOptions, seed: int) -> dict[tuple[str, str], _Solved]:
    """The numbers by (audited, attribute)."""
    rows, names, audited = problem.rows, problem.attributes, problem.audited
    point = responses(rows, problem.heads, problem.watched, audited)
    effect, carried = _posterior(problem, point, options, seed)
    itself = np.array([[problem.itself(a, name) for name in names] for a in audited])
    p = _p_values(problem, np.where(itself, 0.0, effect[0] / problem.spans), draws=options.draws, seed=seed)
    first = {name: problem.rows_of(name)[0] for name in names}
    solved = {}
    for j, a in enumerate(audited):
        for k, name in enumerate(names):
            if itself[j, k]:
                continue
            solved[a, name] = _Solved(
                effect=tuple(effect[:, j, k].tolist()),
                carried=tuple(carried[:, j, k].tolist()),
                incoming=float(point.audited[first[name], j]),
                p=float(p[k, j]),
            )
    return solved


def _posterior(problem: _Problem, point: Responses, options: EffectOptions, seed: int) -> tuple[Floats, Floats]:
    """Mean and 95 % interval of every effect per switch, and of what the effects carry, [3, audited, attribute] each.

    A response has less weight the more it varies between images in a way that the attributes do not explain.
    """
    rough = unmix(point.mixing, point.audited, ridge=options.ridge)
    variance = np.stack(
        [_variance(row, own, problem, rough) for row, own in zip(problem.rows, problem.own, strict=True)]
    )
    weight = 1 / (1 + variance.T / options.misfit**2)
    design = np.repeat(point.mixing[None], len(problem.audited), axis=0)
    for k, name in enumerate(problem.attributes):
        for j in [j for j, a in enumerate(problem.audited) if problem.itself(a, name)]:
            weight[j, problem.rows_of(name)] = 0
            design[j, :, k] = 0
    effects, carried = [], []
    together = max(1, _TOGETHER // len(problem.attributes))
    for at in range(0, len(problem.audited), together):
        some = slice(at, at + together)
        drawn = problem.spans * horseshoe(
            design[some],
            point.audited.T[some],
            weight[some],
            noise=options.misfit,
            noise_weight=options.misfit_weight,
            samples=options.samples,
            streams=[generator(seed, "effects", a) for a in problem.audited[some]],
        )
        error = drawn.mean(axis=0) * options.switch_error
        effects.append(_widened(drawn, np.abs(error)))
        foreign = problem.foreign[some]
        error_carried = np.sqrt((error * foreign) ** 2 @ problem.together.T**2)
        carried.append(_widened((drawn * foreign) @ problem.together.T, error_carried))
    return np.concatenate(effects, axis=1), np.concatenate(carried, axis=1)


def _widened(drawn: Floats, error: Floats) -> Floats:
    """Mean over the draws and 95 % interval, to which a normal error of the given standard deviation is added."""
    mean = drawn.mean(axis=0)
    low, high = percentile_interval(drawn)
    return np.stack([mean, *(mean + sign * np.hypot(end - mean, _Z * error) for sign, end in ((-1, low), (1, high)))])


_Z = 1.96
_TOGETHER = 1000
"""Effects solved at once; bounds the memory of their draws."""


def _variance(row: Row, own: int, problem: _Problem, rough: Floats) -> Floats:
    """Sampling variance of the part of a row's response that the attributes do not explain, [audited].

    The variance of a single image is unknown and taken as large.
    """
    change = row.after - row.before
    if len(row) < 2:
        return np.full(len(problem.targets), 0.25)
    beyond = change[:, problem.targets] - change[:, problem.columns] @ rough
    return np.asarray(len(row) * beyond.var(axis=0, ddof=1) / change[:, own].sum() ** 2)


def _p_values(problem: _Problem, found: Floats, *, draws: int, seed: int) -> Floats:
    """P-values of every attribute, [attribute, audited], by exchanging counterfactuals and controls.

    The part that the other attributes explain (``found`` [audited, attribute], per unit of the witness) is subtracted
    from the audited head's changes, both on the counterfactuals of the attribute and on the controls. The rest is
    summed over both ways, with the opposite sign where the attribute fell. The sum is compared with the sums after
    images exchange counterfactual and control (as Freedman and Lane 1983 permute residuals). P is 1 where the sum of
    the controls is as large or larger.
    """
    images = np.unique(np.concatenate([row.image for row in problem.rows]))
    signs = exchange_signs(len(images), draws=draws, rng=generator(seed, "effects exchange"))
    p = np.ones((len(problem.attributes), len(problem.audited)))
    for k, name in enumerate(problem.attributes):
        others = np.where(np.arange(len(problem.attributes)) == k, 0.0, found)
        parts, places = [], []
        for i in problem.rows_of(name):
            row = problem.rows[i]
            way = np.sign((row.after - row.before)[:, problem.own[i]].sum())
            moved, control = row.after - row.before, np.nan_to_num(row.null - row.before)
            left = [x[:, problem.targets] - x[:, problem.columns] @ others.T for x in (moved, control)]
            parts.append(way * np.stack(left))
            places.append(np.searchsorted(images, row.image))
        ours, theirs = np.concatenate(parts, axis=1)
        exchanged = signs[:, np.concatenate(places)] @ (ours - theirs)
        tested = exchange_p((ours - theirs).sum(axis=0), exchanged)
        p[k] = np.where(np.abs(ours.sum(axis=0)) > np.abs(theirs.sum(axis=0)), tested, 1.0)
    return p
