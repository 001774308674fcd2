"""Rectification (Section 4.5, Eqs. 5 and 6): a target head composed with its shortcuts so that it uses them no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cfalign._analysis.statistics import auroc, bootstrap_counts, generator, percentile_interval
from cfalign._errors import BadInput
from cfalign._heads.composition import Composition, Scale
from cfalign._models.device import on_device
from cfalign._models.guard import undisturbed
from cfalign._rectification.options import RectificationOptions
from cfalign._rectification.rectified import Quality, Reading, Rectified
from cfalign._rectification.solvers import momentum, secant
from cfalign._rectification.workbench import MixturePsi, Workbench, parts_named, prepare
from cfalign._results import Floats
from cfalign._runs.progress import ShowProgress, told_to, with_bars
from cfalign._types import Autoencoder
from cfalign.datasets import Labels, open_images


@with_bars
def rectify(
    target: Composition,
    against: Sequence[Composition],
    *,
    images: Any,
    autoencoder: Autoencoder,
    labels: Labels | ArrayLike | None = None,
    split: Sequence[str | None] | None = None,
    options: RectificationOptions | None = None,
    progress: ShowProgress = None,
) -> Rectified:
    """f' = f_target + Σ βᵢ fᵢ whose counterfactuals leave every shortcut fᵢ alone: mean ψ(f' → fᵢ) ≈ 0.

    Args:
        target: a head, e.g. ``clf["heavy_makeup"]``, or a composition on the scale that the solver composes on.
        against: its shortcuts, heads of any differentiable classifiers; all at once.
        images: as for ``audit``: a folder, a data set, a torch data set or loader, a tensor [n, c, h, w] in [0, 1], or
            an image source.
        autoencoder: any object with ``encode`` and ``decode``.
        labels: of the target, for accuracy and AUROC: a table with a column of the target's name, or one number per
            image (0, 1, NaN for unknown) in the order of the images.
        split: part of every image, ``train``, ``val`` or ``test`` as in the column ``split`` of a table of labels;
            images with another are left out. By default parts are drawn by the seed, with the shares of the options.
        options: solver, shares, seed, search.
        progress: True shows bars; a function is called with (stage, done, total).

    Gradients of every head are taken once per image; no step of either solver runs a backward pass. β is chosen among
    those seen by the validation images, and everything reported is on the held-out test images. What a solver could not
    do is in ``ending``. Raises BadInput for too few positive images and for a target or shortcut without variation. The
    models are left as they came.
    """
    progress = told_to(progress)
    options = options or RectificationOptions()
    parts = [target, *against]
    _check(parts, options)
    source = open_images(images, size=getattr(autoencoder, "size", None))
    parts_of = None if split is None else parts_named(split, len(source.ids))
    truth = None if labels is None else _labels(labels, target, len(source.ids))
    classifiers = [c for part in parts for c in part.classifiers]
    with on_device(options.device), undisturbed(autoencoder, *classifiers):
        bench = prepare(source, parts, autoencoder=autoencoder, parts_of=parts_of, options=options, progress=progress)
        start = _started(bench, parts)
        driven = _driven(start.of(bench.train), options)
        solve = secant if options.solver == "secant" else momentum
        found = solve(bench, driven, start, progress)
        progress("steps", options.most_steps, options.most_steps)
        zero = np.zeros(len(against))
        before, after = (_readings(bench.measure_outgoing(bench.test, beta), options) for beta in (zero, found.beta))
        incoming_before, incoming_after = (_incoming(bench, beta) for beta in (zero, found.beta))
    known = None if truth is None else truth[bench.indices]
    return Rectified(
        composition=_composition(bench, parts, found.beta),
        target=target,
        against=tuple(against),
        beta=tuple(float(b) for b in found.beta),
        ending=found.ending,
        driven_by=driven,
        before=before,
        after=after,
        incoming_before=incoming_before,
        incoming_after=incoming_after,
        quality_before=_quality(bench, zero, known),
        quality_after=_quality(bench, found.beta, known),
        curve=found.curve,
        trail=tuple(_composition(bench, parts, np.asarray(step.beta)) for step in found.curve),
        best_step=found.best_step,
        images=bench.counts,
        options=options,
    )


def _check(parts: Sequence[Composition], options: RectificationOptions) -> None:
    if len(parts) < 2:
        raise BadInput("Rectification needs at least one shortcut to rectify against.")
    scale = "logit" if options.solver == "secant" else "probability"
    for i, part in enumerate(parts):
        if part in parts[:i]:
            raise BadInput(f"{part.name!r} is given twice among target and shortcuts.")
        if not (part.is_head or part.on == scale):
            raise BadInput(
                f"The solver {options.solver!r} composes on {scale}, but {part.name!r} is a composition on {part.on}; "
                f"give single heads or .scaled({scale!r})."
            )


def _labels(labels: Labels | ArrayLike, target: Composition, count: int) -> Floats:
    if isinstance(labels, Labels):
        values: Floats = labels.column(target.terms[0][1].target)
    else:
        values = np.asarray(labels, dtype=np.float64)
    if values.shape != (count,):
        raise BadInput(f"Expected one label per image, {count}, got shape {list(values.shape)}.")
    return values


def _started(bench: Workbench, parts: Sequence[Composition]) -> MixturePsi:
    """ψ at β = 0 on the images of training and validation. Raises BadInput where it has too few images."""
    zero = np.zeros(bench.shortcuts)
    start = bench.measure(np.concatenate([bench.train, bench.validation]), zero)
    _refuse_few(bench, start, bench.measure(bench.test, zero), parts)
    return start


def _refuse_few(bench: Workbench, start: MixturePsi, test: MixturePsi, parts: Sequence[Composition]) -> None:
    incoming = bench.options.incoming
    drop = bench.options.search.off_drop if incoming else bench.options.search.drop
    for name, rows, measured in (
        ("training", bench.train, start.of(bench.train)),
        ("validation", bench.validation, start.of(bench.validation)),
        ("test", bench.test, test),
    ):
        if len(measured) < bench.options.min_images:
            base = parts[1 + int(np.argmin(measured.counts))] if incoming else parts[0]
            raise BadInput(
                f"Too few images to rectify {parts[0].name!r}: {len(measured)} of {len(rows)} {name} images are "
                f"predicted positive for {base.name!r} and let its score drop by {drop:g}; expected at least "
                f"{bench.options.min_images}: give more images with a positive prediction."
            )


def _driven(train: MixturePsi, options: RectificationOptions) -> tuple[str, ...]:
    """What is driven to zero: ψ, or logit ψ where ψ is near 0 only because the shortcut's probability is saturated."""
    if options.solver == "momentum":
        return ("psi",) * int(train.psi.shape[1])
    psi, on_logit = train.mean(), train.mean(["psi_logit"] * train.psi.shape[1])
    blind: list[bool] = [
        abs(p) < options.blind and abs(q) > 2 * options.blind for p, q in zip(psi, on_logit, strict=True)
    ]
    return tuple("psi_logit" if b else "psi" for b in blind)


def _composition(bench: Workbench, parts: Sequence[Composition], beta: Floats) -> Composition:
    if not beta.any():
        return parts[0]
    mixture = bench.mixture(beta)
    scale: Scale = "logit" if mixture.on_logit else "probability"
    made = parts[0].scaled(scale)
    for coefficient, part in zip(mixture.coefficients[1:], parts[1:], strict=True):
        made = made + float(coefficient) * part.scaled(scale)
    return made + mixture.constant


def _readings(measured: MixturePsi, options: RectificationOptions) -> tuple[Reading, ...]:
    on_logit = measured.mean(["psi_logit"] * measured.psi.shape[1])
    return tuple(_reading(measured, i, float(on_logit[i]), options) for i in range(measured.psi.shape[1]))


def _incoming(bench: Workbench, beta: Floats) -> tuple[Reading, ...]:
    """Readings of the shortcuts' own counterfactuals; none unless the options ask for them."""
    return _readings(bench.measure_incoming(bench.test, beta), bench.options) if bench.incoming else ()


def _reading(measured: MixturePsi, shortcut: int, on_logit: float, options: RectificationOptions) -> Reading:
    psi = measured.psi[np.isfinite(measured.psi[:, shortcut]), shortcut]
    mean = low = high = float("nan")
    if len(psi):
        counts = bootstrap_counts(len(psi), resamples=options.resamples, rng=generator(options.seed, "bootstrap"))
        ends = percentile_interval((counts @ psi / len(psi))[:, None])
        mean, low, high = float(psi.mean()), float(ends[0][0]), float(ends[1][0])
    return Reading(mean, low, high, on_logit, len(psi), measured.excluded[shortcut])


def _quality(bench: Workbench, beta: Floats, truth: Floats | None) -> Quality | None:
    if truth is None:
        return None
    mixture, values = bench.mixture(beta), bench.image_values[bench.test]
    label, score = truth[bench.test], mixture.score(values, bench.memory.scores(values))
    known = np.isfinite(label) & np.isfinite(score)
    n = int(known.sum())
    right = (score[known] >= 0.5) == (label[known] > 0.5)
    return Quality(float(right.mean()) if n else float("nan"), auroc(score[known], label[known]), n)
