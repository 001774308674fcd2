"""Two finished runs side by side: which effects appeared, went, grew or shrank beyond chance.

Both runs have intervals, and the interval of a difference is made from them as if they erred independently. Where both
looked at the same images, that is wider than it need be. What both share is how far their counterfactuals switch an
attribute: with the same reference heads, judge, autoencoder and search that error is one factor, and counts once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cfalign._analysis.differences import UNKNOWN, Difference, difference
from cfalign._analysis.statistics import q_values
from cfalign._audit.changes import NOTHING, Change, ChangeKind, Comparison, Status
from cfalign._audit.comparability import (
    matched_heads,
    mismatches,
    same_classifiers,
    same_sample,
    same_switches,
)
from cfalign._audit.pairing import Audit, Pair, pairs_of
from cfalign._errors import BadInput
from cfalign._results import ALPHA, excludes_zero
from cfalign._runs.run import Run

MIN_DIFFERENCE = 0.05
"""The smallest difference that counts as a change."""
OF_IMAGES = 0.1
"""The part of the error of switching an attribute, relative to the effect, that other images change. On drawn faces
effects of unchanged classifiers varied with the images by 0.06 beyond their sampling error (standard deviation).
"""
_ORDER = tuple(Status)


def compare(
    before: Run | str | Path,
    after: Run | str | Path,
    *,
    match: Mapping[str, str] | None = None,
    min_difference: float = MIN_DIFFERENCE,
) -> Comparison:
    """What changed between two finished audits, such as those of the last release and of this one.

    Compared are effects, joint effects of attributes that cannot be told apart, responses of heads without a witness in
    one of the runs, unnamed features and, where both runs looked at the same images, group gaps. Where only one run
    could not tell attributes apart, the sum of their effects in the other one is held against the joint effect. Unnamed
    features have no identity: the first one of a head is held against the first, whatever it shows.

    Args:
        before: a finished audit, or its folder; as ``after``.
        match: names of audited heads in the run before → their names in the run after. The others belong together
            where they have the same name, or where nothing else has their target.
        min_difference: the smallest difference, in [0, 1], that counts as a change.

    Raises BadInput for a run that is not finished or no audit, for a ``min_difference`` out of range, and for a name in
    ``match`` that a run does not have.

    >>> x = cfa.synthetic.render(cfa.synthetic.sample(40, seed=0))
    >>> clf, ae = cfa.classifiers.load("embedded"), cfa.autoencoders.load("embedded")
    >>> run = cfa.audit(x, clf, autoencoder=ae, bases=["smiling", "young"])
    >>> cfa.compare(run, run.path).counts  # two effects and two group gaps
    {'unchanged': 4}
    """
    if not 0 <= min_difference <= 1:
        raise BadInput(f"Expected min_difference between 0 and 1, got {min_difference!r}.")
    old, new = (Audit.of(run) for run in (before, after))
    heads = matched_heads(old.record, new.record, match or {})
    shared = _switch_error(old, new)
    changes = _judged([_compared(pair, shared) for pair in pairs_of(old, new, heads)], min_difference)
    return Comparison(
        before=str(old.run.path),
        after=str(new.run.path),
        changes=changes,
        heads=heads,
        mismatches=mismatches(old.record, new.record, heads),
        same_classifiers=same_classifiers(old.record, new.record),
        min_difference=min_difference,
        counts={s.value: n for s in Status if (n := sum(c.status is s for c in changes))},
    )


def _switch_error(old: Audit, new: Audit) -> float:
    """The relative error of effects that both runs hold as one factor; 0 where they switch attributes otherwise."""
    if not same_switches(old.record, new.record):
        return 0.0
    settings = [a.record["settings"].get("effects", {}) for a in (old, new)]
    error = min(float(one.get("switch_error", 0.0)) for one in settings)
    return error if same_sample(old.record, new.record) else math.sqrt(max(0.0, error**2 - OF_IMAGES**2))


@dataclass(frozen=True)
class _Compared:
    """A pair with the difference of its numbers."""

    pair: Pair
    difference: Difference


def _compared(pair: Pair, shared: float) -> _Compared:
    if not (pair.before and pair.after):
        return _Compared(pair, UNKNOWN)
    switched = shared if pair.kind in (ChangeKind.EFFECT, ChangeKind.JOINT) else 0.0
    return _Compared(pair, difference(pair.before.estimate, pair.after.estimate, shared=switched))


def _judged(compared: Sequence[_Compared], least: float) -> tuple[Change, ...]:
    """The changes in order; q-values are over all differences, and over those of gaps among themselves."""
    changes = []
    for gaps in (False, True):
        some = [one for one in compared if (one.pair.kind is ChangeKind.GAP) == gaps]
        q = q_values(np.array([one.difference.p for one in some]))
        changes += [_change(one, value, least) for one, value in zip(some, q.tolist(), strict=True)]
    return tuple(sorted(changes, key=lambda c: (_ORDER.index(c.status), -np.nan_to_num(abs(c.difference)))))


def _change(one: _Compared, q: float, least: float) -> Change:
    pair, found = one.pair, one.difference
    status = _status(pair, found, q, least)
    return Change(
        status=status,
        kind=pair.kind,
        audited=pair.audited,
        attribute=pair.attribute,
        before=pair.before or NOTHING,
        after=pair.after or NOTHING,
        difference=found.value,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        q=q,
        own=pair.own,
        reason=pair.reason or _undefined(pair, status),
    )


def _status(pair: Pair, found: Difference, q: float, least: float) -> Status:
    if pair.before is None or pair.after is None:
        return Status.ONLY_AFTER if pair.before is None else Status.ONLY_BEFORE
    if not found.known:
        return Status.UNDEFINED
    before, after = pair.before, pair.after
    if not (q < ALPHA and excludes_zero(found.ci_low, found.ci_high) and abs(found.value) >= least):
        return Status.UNCHANGED
    there = (before.clear, after.clear) if before.value * after.value > 0 else (False, after.clear)
    towards = found.value * after.value > 0
    if there == (True, True):
        return Status.GREW if towards else Status.SHRANK
    if after.clear and towards:
        return Status.APPEARED
    if before.clear and found.value * before.value < 0:
        return Status.GONE
    return Status.UNCHANGED


def _undefined(pair: Pair, status: Status) -> str:
    """Why a run has no number for a pair that it knows."""
    if status is not Status.UNDEFINED:
        return ""
    blank = [run for run, one in (("before", pair.before), ("after", pair.after)) if one and not one.estimate.known]
    few = [run for run, one in (("before", pair.before), ("after", pair.after)) if one and not one.n]
    if few:
        return f"no counterfactual counts in the run {' and the run '.join(few)}"
    return f"the run {' and the run '.join(blank)} has no interval for it"
