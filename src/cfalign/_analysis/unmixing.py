"""The regression behind effects: what is solved, its posterior, and its p-values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from cfalign._analysis.alignment import Row
from cfalign._analysis.inseparable import Inseparable
from cfalign._analysis.options import EffectOptions
from cfalign._analysis.statistics import (
    People,
    exchange_p,
    generator,
    horseshoe,
    percentile_interval,
    sums_of_parts,
    variances_over_people,
)
from cfalign._results import Floats, own_concept


@dataclass(frozen=True)
class Responses:
    """Mean responses to the counterfactuals of each row, which are those of one attribute and one way."""

    mixing: Floats
    """Ψ[row, attribute] = ΣΔ of the witness of the attribute / ΣΔ of the row's own head."""
    audited: Floats
    """r[row, audited] = ΣΔ of the audited head / ΣΔ of the row's own head."""


def responses(rows: Sequence[Row], heads: Sequence[str], watched: Sequence[str], audited: Sequence[str]) -> Responses:
    """The responses to the counterfactuals of each row. ``watched``: each attribute's witness, one of ``heads``."""
    columns, targets = ([list(heads).index(h) for h in names] for names in (watched, audited))
    total = np.stack([row.change.sum(axis=0) for row in rows])
    own = total[np.arange(len(rows)), [list(heads).index(row.base) for row in rows]]
    relative = total / own[:, None]
    return Responses(relative[:, columns], relative[:, targets])


def unmix(psi: Floats, responses: Floats, *, ridge: float) -> Floats:
    """Effects e [..., K, A] that minimise ‖Ψ e − r‖² + ridge · ‖e‖²; Ψ [..., row, K], r [..., row, A]."""
    transposed = np.swapaxes(psi, -1, -2)
    solver = np.linalg.solve(transposed @ psi + ridge * np.eye(psi.shape[-1]), transposed)
    return np.asarray(solver @ responses, dtype=np.float64)


@dataclass(frozen=True)
class Problem:
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
    groups: Sequence[Inseparable]
    reach: Floats
    """The largest change that a score can make, [audited]."""
    people: People | None = None
    """The group of each image; None where every image stands alone."""

    def who(self, row: Row) -> People:
        """What is drawn at once: the person of each counterfactual, or else its image."""
        return row.image if self.people is None else self.people[row.image]

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

    def concept(self, audited: str, attribute: str) -> bool:
        """Whether the attribute is what the audited head is meant to see, or the head itself."""
        return self.itself(audited, attribute) or own_concept(audited, attribute)

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Whether another column than its own head tells how far an attribute moved, [attribute]."""
        return np.array([w != a for w, a in zip(self.watched, self.attributes, strict=True)])

    def places(self, group: Inseparable) -> tuple[int, ...]:
        """The members of a group, as positions among the attributes."""
        return tuple(list(self.attributes).index(a) for a in group.attributes)

    @property
    def signs(self) -> Floats:
        """Which way each attribute is switched with a group: 1, −1, or 0 for no member, [group, attribute]."""
        signs = np.zeros((len(self.groups), len(self.attributes)))
        for i, group in enumerate(self.groups):
            signs[i, list(self.places(group))] = group.signs
        return signs

    def rows_of(self, attribute: str) -> list[int]:
        return [k for k, row in enumerate(self.rows) if row.base == attribute]


@dataclass(frozen=True)
class Solved:
    """The numbers of one audited head and one attribute, or one group of attributes."""

    effect: tuple[float, float, float]
    """Mean and 95 % interval."""
    carried: tuple[float, float, float]
    incoming: float
    p: float


@dataclass(frozen=True)
class Solutions:
    """All numbers of a problem."""

    of_attributes: dict[tuple[str, str], Solved]
    """By (audited, attribute)."""
    of_groups: dict[tuple[str, Inseparable], Solved]
    """By (audited, group); a head's own concept is in none of its groups."""


NAN = float("nan")
UNSOLVED = Solved(effect=(NAN,) * 3, carried=(NAN,) * 3, incoming=NAN, p=NAN)


def solved(problem: Problem, options: EffectOptions, seed: int) -> Solutions:
    """Effects and joint effects with their intervals, readings and p-values."""
    rows, names, audited = problem.rows, problem.attributes, problem.audited
    point = responses(rows, problem.heads, problem.watched, audited)
    found = _posterior(problem, point, options, seed)
    itself = np.array([[problem.itself(a, name) for name in names] for a in audited])
    per_unit = np.where(itself & ~problem.judged, 0.0, found.effect[0] / problem.spans)
    members = [(k,) for k in range(len(names))] + [problem.places(g) for g in problem.groups]
    p = _p_values(problem, per_unit, members, draws=options.draws, seed=seed)
    p[np.concatenate([found.beyond, found.joint_beyond], axis=1).T] = NAN
    incoming = np.array([point.audited[problem.rows_of(name)[0]] for name in names])
    of_attributes = {
        (a, name): Solved(
            effect=tuple(found.effect[:, j, k].tolist()),
            carried=tuple(found.carried[:, j, k].tolist()),
            incoming=float(incoming[k, j]),
            p=float(p[k, j]),
        )
        for j, a in enumerate(audited)
        for k, name in enumerate(names)
        if not itself[j, k]
    }
    of_groups = {
        (a, group): Solved(
            effect=tuple(found.joint[:, j, i].tolist()),
            carried=(NAN,) * 3,
            incoming=float(np.mean(group.signs * incoming[list(problem.places(group)), j])),
            p=float(p[len(names) + i, j]),
        )
        for j, a in enumerate(audited)
        for i, group in enumerate(problem.groups)
        if not any(problem.concept(a, name) for name in group.attributes)
    }
    return Solutions(of_attributes, of_groups)


@dataclass(frozen=True)
class _Posterior:
    """Mean, low and high of effects per switch."""

    effect: Floats
    """[3, audited, attribute]"""
    carried: Floats
    """[3, audited, attribute]: what the effects carry between the groups of each attribute."""
    joint: Floats
    """[3, audited, group]"""
    beyond: NDArray[np.bool_]
    """Whether the whole interval lies beyond what the score can do, [audited, attribute]."""
    joint_beyond: NDArray[np.bool_]
    """The same of groups, [audited, group]."""

    @classmethod
    def joined(cls, parts: Sequence[_Posterior]) -> _Posterior:
        """The parts after one another."""
        return cls(
            *(np.concatenate([getattr(p, f.name) for p in parts], axis=1) for f in fields(cls)[:3]),
            *(np.concatenate([getattr(p, f.name) for p in parts], axis=0) for f in fields(cls)[3:]),
        )


def _posterior(problem: Problem, point: Responses, options: EffectOptions, seed: int) -> _Posterior:
    """Effects of every audited head.

    A response has less weight the more it varies between images in a way that the attributes do not explain.
    """
    rough = unmix(point.mixing, point.audited, ridge=options.ridge)
    variance = _variances(problem, rough)
    weight = 1 / (1 + variance.T / options.misfit**2)
    design = np.repeat(point.mixing[None], len(problem.audited), axis=0)
    for k, name in enumerate(problem.attributes):
        for j in [j for j, a in enumerate(problem.audited) if problem.itself(a, name)]:
            weight[j, problem.rows_of(name)] = 0
            if not problem.judged[k]:
                design[j, :, k] = 0
    together = max(1, _TOGETHER // len(problem.attributes))
    parts = []
    for at in range(0, len(problem.audited), together):
        some = slice(at, at + together)
        drawn = horseshoe(
            design[some],
            point.audited.T[some],
            weight[some],
            noise=options.misfit,
            noise_weight=options.misfit_weight,
            samples=options.samples,
            streams=[generator(seed, "effects", a) for a in problem.audited[some]],
        )
        parts.append(_summary(problem, some, drawn, design[some], point.audited.T[some], weight[some], options))
    return _Posterior.joined(parts)


def _summary(
    problem: Problem,
    some: slice,
    drawn: Floats,
    design: Floats,
    response: Floats,
    weight: Floats,
    options: EffectOptions,
) -> _Posterior:
    """Intervals of some of the audited heads from draws of their effects per unit, [sample, audited, attribute]."""
    reach = problem.reach[some, None]
    per_switch = problem.spans * drawn
    error = np.abs(per_switch.mean(axis=0)) * options.switch_error
    effect = _widened(per_switch, error)
    shared = _shared(problem, effect, design, response, weight, options)
    signs = problem.signs
    together = per_switch @ signs.T
    joint = _widened(together, np.abs(together.mean(axis=0)) * options.switch_error)
    foreign = problem.foreign[some]
    bounded = np.clip(per_switch, -reach, reach)
    error_carried = np.sqrt((error * foreign) ** 2 @ problem.together.T**2)
    return _Posterior(
        effect=np.clip(shared, -reach, reach),
        carried=_widened((bounded * foreign) @ problem.together.T, error_carried),
        joint=np.clip(joint, -reach, reach),
        beyond=_beyond(effect, reach),
        joint_beyond=_beyond(joint, reach),
    )


def _beyond(estimate: Floats, reach: Floats) -> NDArray[np.bool_]:
    return np.asarray((estimate[1] > reach) | (estimate[2] < -reach))


def _shared(
    problem: Problem, effect: Floats, design: Floats, response: Floats, weight: Floats, options: EffectOptions
) -> Floats:
    """The effects, of which those in groups have intervals that also hold what least squares say of the members.

    The prior gives what a group shares to few of its members, whatever the data say of which. Least squares take no
    side: the closer the members' columns, the wider these intervals.
    """
    wider = effect.copy()
    for group in problem.groups:
        places = list(problem.places(group))
        others = np.setdiff1d(np.arange(len(problem.attributes)), places)
        rest = response - np.einsum("jrk,jk->jr", design[..., others], effect[0][:, others] / problem.spans[others])
        columns = design[..., places]
        weighted = np.swapaxes(columns * weight[..., None], -1, -2)
        inverse = np.linalg.inv(weighted @ columns + _FLAT * np.eye(len(places)))
        mean = (inverse @ (weighted @ rest[..., None]))[..., 0]
        deviation = options.misfit * np.sqrt(np.diagonal(inverse, axis1=1, axis2=2))
        ends = [(mean + sign * _Z * deviation) * problem.spans[places] for sign in (-1, 1)]
        wider[1][:, places] = np.minimum(wider[1][:, places], ends[0])
        wider[2][:, places] = np.maximum(wider[2][:, places], ends[1])
    return wider


def _widened(drawn: Floats, error: Floats) -> Floats:
    """Mean over the draws and 95 % interval, to which a normal error of the given standard deviation is added."""
    mean = drawn.mean(axis=0)
    low, high = percentile_interval(drawn)
    return np.stack([mean, *(mean + sign * np.hypot(end - mean, _Z * error) for sign, end in ((-1, low), (1, high)))])


_Z = 1.96
_FLAT = 1e-4
"""Penalty of the least squares of a group, which bounds intervals where its columns are the same."""
_STILL = 1e-6
"""Changes of a score below this are rounding."""
_TOGETHER = 1000
"""Effects solved at once; bounds the memory of their draws."""


_UNKNOWN = 0.25
"""The variance of a single image or person: unknown, and taken as large."""


def _variances(problem: Problem, rough: Floats) -> Floats:
    """Sampling variance of the part of each row's response that the attributes do not explain, [row, audited].

    The two ways of an attribute share people, so they are taken together where there are any.
    """
    pairs = list(zip(problem.rows, problem.own, strict=True))
    found = np.stack([_variance(row, own, problem, rough) for row, own in pairs])
    if problem.people is None:
        return found
    for name in problem.attributes:
        at = problem.rows_of(name)
        parts = []
        for row, own in (pairs[i] for i in at):
            left = _unexplained(row, problem, rough)
            parts.append((left - left.mean(axis=0)) / row.change[:, own].sum())
        variance = variances_over_people(parts, [problem.who(problem.rows[i]) for i in at])
        found[at] = np.where(np.isnan(variance), _UNKNOWN, variance)
    return found


def _variance(row: Row, own: int, problem: Problem, rough: Floats) -> Floats:
    """The same of one row, [audited], where every image stands alone."""
    if len(row) < 2:
        return np.full(len(problem.targets), _UNKNOWN)
    left = _unexplained(row, problem, rough)
    return np.asarray(len(row) * left.var(axis=0, ddof=1) / row.change[:, own].sum() ** 2)


def _unexplained(row: Row, problem: Problem, rough: Floats) -> Floats:
    """What the attributes do not explain of the changes of each image, [m, audited]."""
    change = row.change
    return np.asarray(change[:, problem.targets] - change[:, problem.columns] @ rough)


def _p_values(problem: Problem, found: Floats, members: Sequence[Sequence[int]], *, draws: int, seed: int) -> Floats:
    """P-values [member set, audited] by exchanging counterfactuals and controls; ``members``: attributes by position.

    The part that attributes beside the members explain (``found`` [audited, attribute], per unit of the witness) is
    subtracted from the audited head's changes, on the counterfactuals of the members and on the controls. The rest is
    summed over both ways, with the opposite sign where the attribute fell. The sum is compared with the sums after
    images, or all images of a person, exchange counterfactual and control (as Freedman and Lane 1983 permute
    residuals). P is 1 where the sum of the controls is as large or larger.
    """
    drawn = np.unique(np.concatenate([problem.who(row) for row in problem.rows]))
    apart, moved_more = [], []
    for some in members:
        others = np.where(np.isin(np.arange(len(problem.attributes)), some), 0.0, found)
        parts, places = [], []
        for i, turn in _rows_of_members(problem, some):
            row = problem.rows[i]
            moved, control = row.change, np.nan_to_num(row.null_change)
            way = turn * np.sign(moved[:, problem.own[i]].sum())
            left = [x[:, problem.targets] - x[:, problem.columns] @ others.T for x in (moved, control)]
            parts.append(way * np.stack(left))
            places.append(np.searchsorted(drawn, problem.who(row)))
        ours, theirs = np.concatenate(parts, axis=1)
        still = _still(problem, [i for i, _ in _rows_of_members(problem, some)])
        apart.append((np.concatenate(places), ours - theirs))
        moved_more.append(~still & (np.abs(ours.sum(axis=0)) > np.abs(theirs.sum(axis=0))))
    exchanged = sums_of_parts(apart, len(drawn), draws=draws, rng=generator(seed, "effects exchange"))
    tested = [exchange_p(values.sum(axis=0), sums) for (_, values), sums in zip(apart, exchanged, strict=True)]
    return np.where(moved_more, tested, 1.0).reshape(len(members), len(problem.audited))


def _still(problem: Problem, rows: Sequence[int]) -> NDArray[np.bool_]:
    """Which audited heads change on no counterfactual of these rows, [audited]. They use nothing of it."""
    changes = [problem.rows[i].change[:, problem.targets] for i in rows]
    return np.asarray((np.abs(np.concatenate(changes)) < _STILL).all(axis=0))


def _rows_of_members(problem: Problem, members: Sequence[int]) -> list[tuple[int, float]]:
    """The rows of some attributes, each with the way that counts as forward."""
    signs = next((g.signs for g in problem.groups if problem.places(g) == tuple(members)), (1,) * len(members))
    names = [problem.attributes[k] for k in members]
    return [(i, float(sign)) for name, sign in zip(names, signs, strict=True) for i in problem.rows_of(name)]
