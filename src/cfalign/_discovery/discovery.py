"""Unnamed features: found on one half of the images, tested by walking on the other half.

A feature is a direction of the latent space that images share, along which an audited head changes although no known
head does. ``_analysis.unexplained`` says how it is found. Images of the other half are then walked from its low end to
its high one; what counts is by how much the audited score changes beyond what the known heads' own changes explain.
Random directions that the known heads do not look at are walked too. Not in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cfalign._analysis.statistics import (
    People,
    generator,
    q_values,
    resampled_interval,
    resampled_sums,
)
from cfalign._analysis.unexplained import Fitted, Folds, Sighting, apart, regression, sighted
from cfalign._counterfactuals.batch import Rows
from cfalign._discovery.chance import Controls, controls_of, p_value, unknown
from cfalign._discovery.landscape import Heads, Landscape, Sample, logits_of, looked, slopes
from cfalign._discovery.options import FEWEST, DiscoveryOptions
from cfalign._discovery.walks import Line, Pictures, Walked, walk_lines
from cfalign._errors import BadInput
from cfalign._findings import Shown, UnnamedFeature
from cfalign._results import ALPHA, Floats, excludes_zero
from cfalign._runs.progress import Progress, silent

RESAMPLES = 2000
CONTROLLED = 24
"""Images that each random direction is walked from."""
FOLDS = 5


@dataclass(frozen=True)
class Candidate:
    """A direction before its test."""

    audited: str
    number: int
    line: Line
    sighting: Sighting
    fitted: Fitted
    """The audited head's logit on those of the known heads."""


@dataclass(frozen=True)
class Discovery:
    """All features of all audited heads, with what pictures and names of them need."""

    features: tuple[UnnamedFeature, ...]
    lines: tuple[Line, ...]
    """Of each feature."""
    coefficients: tuple[Floats, ...]
    """Of each feature: the weights of the explaining heads' logits in the audited one."""
    pictures: tuple[Pictures, ...]
    """Of each feature."""
    sample: Sample
    tested: Rows
    """Rows of the sample that the features were tested on."""
    columns: Mapping[str, int]
    """Of each audited head in the scores of the sample."""

    def positions(self, number: int) -> Floats:
        """Where all images lie along a feature, [image]."""
        return np.asarray(self.sample.coordinates @ self.lines[number].direction)


def discover_in(
    landscape: Landscape,
    heads: Heads,
    positions: Sequence[int],
    people: People | None,
    *,
    options: DiscoveryOptions,
    seed: int,
    progress: Progress = silent,
) -> Discovery:
    """The unnamed features of every audited head, the first of each first.

    Args:
        landscape: the images, and the latent space that they are seen from.
        heads: who is audited, and who explains.
        positions: of the images in the source, in an order drawn at random.
        people: a number for the group of each of them, [image]; None where each stands alone.
        options: how many features, and how they are sought.
        seed: of random directions and of resamples.
        progress: called with (stage, done, total).

    Raises BadInput where fewer than 60 images can be used.
    """
    sample = looked(landscape, heads, positions, people, progress)
    if len(sample) < FEWEST:
        raise BadInput(
            f"Unnamed features need at least {FEWEST} images that can be read and that all heads answer, got "
            f"{len(sample)}: give more images, or leave out --discover."
        )
    finding, testing = _halves(sample)
    found = sample.some(finding)
    walked_ones = found.some(np.arange(min(len(found), options.looks)))
    table = slopes(landscape, heads, walked_ones, [*heads.known, *heads.audited], options.step, progress)
    known, own = np.split(table, [len(heads.known)], axis=1)
    candidates: list[Candidate] = []
    for number, audited in enumerate(heads.audited):
        candidates += _candidates(heads, found, known, own[:, number], audited, options)
    controls = controls_of(found.coordinates, known, count=options.controls, ends=options.ends, seed=seed)
    tested = sample.some(testing)
    every = np.arange(len(tested))
    shown = [_spread(tested.coordinates @ c.line.direction, options.shown) for c in candidates]
    walked, pictures = walk_lines(
        landscape,
        heads,
        tested,
        [*(c.line for c in candidates), *controls.lines],
        asked=[*([c.audited, *heads.explaining] for c in candidates), *([heads.panel.labels] * options.controls)],
        images=[every] * len(candidates) + [every[:CONTROLLED]] * options.controls,
        shown=[*shown, *([every[:0]] * options.controls)],
        progress=progress,
    )
    features = [
        _tested(heads, tested, found, candidate, walk, (controls, walked[len(candidates) :]), options, seed)
        for candidate, walk in zip(candidates, walked, strict=False)
    ]
    return Discovery(
        features=tuple(_decided(features, options)),
        lines=tuple(candidate.line for candidate in candidates),
        coefficients=tuple(candidate.fitted.coefficients for candidate in candidates),
        pictures=tuple(pictures),
        sample=sample,
        tested=testing,
        columns=dict(zip(heads.audited, heads.columns(heads.audited), strict=True)),
    )


def _halves(sample: Sample) -> tuple[Rows, Rows]:
    """Rows that find, and rows that test: images in turn, those of one person on the same side."""
    place = _persons(sample)
    return np.flatnonzero(place % 2 == 0), np.flatnonzero(place % 2 == 1)


def _persons(sample: Sample) -> Rows:
    """The number of each image's person in the order in which they appear; of each image where each stands alone."""
    if sample.people is None:
        return np.arange(len(sample))
    _, first, place = np.unique(sample.people, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[place], dtype=np.int64)


def _folds(sample: Sample) -> Folds:
    return _persons(sample) % FOLDS


def _candidates(
    heads: Heads, found: Sample, known: Floats, own: Floats, audited: str, options: DiscoveryOptions
) -> list[Candidate]:
    """The directions of one head, each in what those before it leave.

    ``known``, ``own``: slopes of the known heads [image, head, coordinate], and of this one [image, coordinate].
    """
    folds = _folds(found)
    (column,) = heads.columns([audited])
    answer = logits_of(found.scores[:, column])
    fitted = regression(logits_of(found.scores[:, heads.columns(heads.explaining)]), answer, folds)
    residual, rest = fitted.residual, apart(own, known)
    candidates: list[Candidate] = []
    for number in range(1, options.features + 1):
        sighting = sighted(found.coordinates, residual, rest, folds)
        line = Line.through(sighting.direction, found.coordinates, options.ends)
        candidates.append(Candidate(audited, number, line, sighting, fitted))
        place = (found.coordinates @ sighting.direction)[:, None]
        residual = regression(place, residual, folds).residual
        rest = rest - (rest @ sighting.direction)[:, None] * sighting.direction
    return candidates


def _spread(places: Floats, count: int) -> Rows:
    """Rows of images from the low end to the high one, the extremes left out."""
    order = np.argsort(places, kind="stable")
    wanted = np.linspace(0.1, 0.9, count) * (len(order) - 1)
    return np.unique(order[wanted.round().astype(np.int64)])


def _tested(
    heads: Heads,
    tested: Sample,
    found: Sample,
    candidate: Candidate,
    walk: Walked,
    controls: tuple[Controls, Sequence[Walked]],
    options: DiscoveryOptions,
    seed: int,
) -> UnnamedFeature:
    (column,) = heads.columns([candidate.audited])
    explaining = heads.columns(heads.explaining)
    whole = walk.change(column)
    named = walk.named(column, explaining, candidate.fitted.coefficients)
    known = np.isfinite(whole) & np.isfinite(named)
    people = None if tested.people is None else tested.people[known]
    beyond = (whole - named)[known]
    effect = float(beyond.mean()) if len(beyond) else float("nan")
    rng = generator(seed, "unnamed", candidate.audited, str(candidate.number))
    sums, counts = resampled_sums(beyond[:, None], resamples=RESAMPLES, rng=rng, people=people)
    samples = sums / np.maximum(counts, 1)[:, None]
    low, high = resampled_interval(samples, np.array([effect]), people)
    drawn, along_them = controls
    random = np.array([_mean_beyond(c, column, explaining, candidate.fitted.coefficients) for c in along_them])
    answer = logits_of(tested.scores[:, column])
    left = answer - candidate.fitted.predict(logits_of(tested.scores[:, explaining]))
    lowest = _along(tested, candidate.line, column)
    along = {name: float(np.nanmean(walk.change(c))) for name, c in zip(heads.known, explaining, strict=False)}
    return UnnamedFeature(
        audited=candidate.audited,
        number=candidate.number,
        effect=effect,
        ci_low=float(low[0]),
        ci_high=float(high[0]),
        whole=float(whole[known].mean()) if known.any() else float("nan"),
        named=float(named[known].mean()) if known.any() else float("nan"),
        chance=float(np.sqrt(np.nanmean(np.square(random)))),
        p=p_value(effect, random=random, noise=float(samples.std()), free=drawn.free),
        q=float("nan"),
        n=int(known.sum()),
        found_on=len(found),
        unexplained=_share(left, answer),
        explains=_explained(found, tested, candidate, left),
        told=candidate.sighting.told,
        agreement=candidate.sighting.agreement,
        found=False,
        along=dict(sorted(along.items(), key=lambda entry: -abs(entry[1]))),
        lowest=lowest[: options.shown],
        highest=lowest[::-1][: options.shown],
        free=drawn.free,
        reason=unknown(drawn.free),
    )


def _mean_beyond(walk: Walked, column: int, known: Sequence[int], coefficients: Floats) -> float:
    values = walk.change(column) - walk.named(column, known, coefficients)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def _share(left: Floats, answer: Floats) -> float:
    spread = float(answer.var())
    return float(left.var()) / spread if spread > 0 else float("nan")


def _explained(found: Sample, tested: Sample, candidate: Candidate, left: Floats) -> float:
    """Share of the variance of what is left that places along the line explain, on images that did not find it."""
    place = (found.coordinates @ candidate.line.direction)[:, None]
    fitted = regression(place, candidate.fitted.residual, _folds(found))
    spread = float(left.var())
    if spread <= 0:
        return float("nan")
    rest = left - fitted.predict((tested.coordinates @ candidate.line.direction)[:, None])
    return max(0.0, 1 - float(rest.var()) / spread)


def _along(tested: Sample, line: Line, column: int) -> tuple[Shown, ...]:
    """All images along a line, the lowest first."""
    places = tested.coordinates @ line.direction
    standard = (places - places.mean()) / (places.std() or 1.0)
    order = np.argsort(places, kind="stable")
    return tuple(Shown(tested.ids[i], float(standard[i]), float(tested.scores[i, column]), {}) for i in order)


def _decided(features: Sequence[UnnamedFeature], options: DiscoveryOptions) -> list[UnnamedFeature]:
    """The features with their q, and whether each counts as found."""
    q = q_values(np.array([feature.p for feature in features]))
    decided = []
    for feature, value in zip(features, q.tolist(), strict=True):
        clear = value < ALPHA and excludes_zero(feature.ci_low, feature.ci_high)
        counts = clear and feature.effect >= options.min_effect and feature.explains >= options.min_explained
        decided.append(replace(feature, q=value, found=bool(counts)))
    return decided
