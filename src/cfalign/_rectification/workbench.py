"""Images read, split and remembered, so that every β is measured with decoder forwards only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cfalign._analysis.statistics import generator
from cfalign._counterfactuals.batch import Models, Rows
from cfalign._counterfactuals.origins import Origins, joined, origins
from cfalign._errors import BadInput
from cfalign._heads.composition import Composition
from cfalign._heads.panel import Weights, weights
from cfalign._heads.scoring import respond
from cfalign._models.guard import device_of
from cfalign._rectification.mixture import (
    Memory,
    Mixture,
    MixtureEnds,
    remember,
    shortcut_psi,
    shortcut_psi_logit,
    values_of,
    walk_mixture,
)
from cfalign._rectification.options import RectificationOptions
from cfalign._results import Floats, Outcome
from cfalign._runs.progress import Progress
from cfalign._types import Autoencoder
from cfalign.datasets import ImageSource, in_batches

_PARTS = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


@dataclass(frozen=True)
class MixturePsi:
    """ψ of one mixture on some images."""

    rows: Rows
    """Images with a defined ψ towards or from some shortcut."""
    psi: Floats
    """[row, shortcut]; NaN where undefined."""
    psi_logit: Floats
    excluded: tuple[dict[str, int], ...]
    """By shortcut."""
    decodes: int

    def of(self, rows: Rows) -> MixturePsi:
        """Those of some images; what was excluded and the cost are not kept."""
        keep = np.isin(self.rows, rows)
        return MixturePsi(self.rows[keep], self.psi[keep], self.psi_logit[keep], (), 0)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Defined ψ by shortcut."""
        return np.asarray(np.isfinite(self.psi).sum(axis=0), dtype=np.int64)

    def __len__(self) -> int:
        """The fewest of any shortcut."""
        return int(self.counts.min())

    def mean(self, driven: Sequence[str] | None = None) -> Floats:
        """Mean by shortcut, NaN without images; of logit ψ where ``driven`` says so."""
        by_logit = [d == "psi_logit" for d in driven or ["psi"] * self.psi.shape[1]]
        return _mean(np.where(by_logit, self.psi_logit, self.psi))

    def error(self, driven: Sequence[str] | None = None) -> float:
        """Standard error of ‖mean‖, the shortcuts taken as independent."""
        by_logit = [d == "psi_logit" for d in driven or ["psi"] * self.psi.shape[1]]
        chosen = np.where(by_logit, self.psi_logit, self.psi)
        spread = _mean((chosen - _mean(chosen)) ** 2) / np.maximum(self.counts, 1)
        return float(np.sqrt(spread.sum()))


def _mean(values: Floats) -> Floats:
    """Mean over rows without the NaN, [column]; NaN where there is nothing."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.asarray(total / np.where(known.any(axis=0), known.sum(axis=0), np.nan))


@dataclass(frozen=True)
class Workbench:
    """Everything that a β is measured with."""

    memory: Memory
    image_values: Floats
    """Values of the parts on the images as they came, [image, part]."""
    indices: Rows
    """Position of every image in the source."""
    skipped: int
    train: Rows
    validation: Rows
    test: Rows
    incoming: tuple[tuple[Rows, MixtureEnds], ...]
    """Counterfactuals of every shortcut's own head, with their images; empty for the outgoing reading."""
    options: RectificationOptions

    @property
    def counts(self) -> dict[str, int]:
        """Images by part, and those that could not be read."""
        return {
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
            "skipped": self.skipped,
        }

    @property
    def shortcuts(self) -> int:
        """Number of shortcuts."""
        return int(self.memory.values.shape[1]) - 1

    def standards(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation of every part's value on x0 of the training images, [part]."""
        values = self.memory.values[self.train]
        values = values[np.isfinite(values).all(axis=1)]
        return values.mean(axis=0), values.std(axis=0)

    def mixture(self, beta: Floats) -> Mixture:
        """f' for a β [shortcut]: at 0 it is the target itself, on its own scale and with its own threshold.

        ``secant``: logit_target + sd_target · Σ βᵢ (logitᵢ − meanᵢ) / sdᵢ; ``momentum``: p_target + Σ βᵢ pᵢ.
        """
        if self.options.solver == "momentum":
            plain = bool(self.memory.on_logit[0]) and not beta.any()
            return Mixture(np.concatenate([[1.0], beta]), 0.0, plain)
        mean, deviation = self.standards()
        coefficients = np.concatenate([[1.0], beta * deviation[0] / deviation[1:]])
        return Mixture(coefficients, float(-coefficients[1:] @ mean[1:]), True)

    def eligible(self, rows: Rows, mixture: Mixture) -> Rows:
        """Those of the images that the mixture predicts positive."""
        values = self.memory.values[rows]
        with np.errstate(invalid="ignore"):
            return rows[mixture.score(values, self.memory.scores(values)) >= self.options.search.eligible]

    def measure(self, rows: Rows, beta: Floats) -> MixturePsi:
        """ψ in the reading that the options name."""
        return (self.measure_incoming if self.options.incoming else self.measure_outgoing)(rows, beta)

    def measure_incoming(self, rows: Rows, beta: Floats) -> MixturePsi:
        """ψ(shortcut → f') = Δf' / Δshortcut on the shortcuts' counterfactuals; no decoder runs."""
        rows = np.sort(rows)
        mixture, scale, base_scale = self.mixture(beta), self.standards()[1], self._spread(self.mixture(beta))
        psi, psi_logit = np.full((2, len(rows), self.shortcuts), np.nan)
        excluded = []
        for i, (images, walked) in enumerate(self.incoming):
            scores = [self.memory.scores(values) for values in (walked.before, walked.after)]
            change = mixture.score(walked.after, scores[1]) - mixture.score(walked.before, scores[0])
            moved_by = walked.ends.base_after - walked.ends.base_before
            known = (np.abs(moved_by) >= self.options.min_base_change) & np.isfinite(change)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(known, change / moved_by, np.nan)
                steps = walked.after - walked.before
                on_logit = (steps @ mixture.coefficients / base_scale) / (steps[:, i + 1] / scale[i + 1])
            place = np.searchsorted(rows, images)
            mine = (place < len(rows)) & (rows[np.minimum(place, len(rows) - 1)] == images)
            psi[place[mine], i], psi_logit[place[mine], i] = ratio[mine], np.where(known, on_logit, np.nan)[mine]
            here = [o for o, m in zip(walked.ends.outcomes, mine, strict=True) if m]
            excluded.append({"not_eligible": len(rows) - len(here)} | _reasons(here, known[mine]))
        some = np.isfinite(psi).any(axis=1)
        return MixturePsi(rows[some], psi[some], psi_logit[some], tuple(excluded), 0)

    def _spread(self, mixture: Mixture) -> float:
        values = self.memory.values[self.train] @ mixture.coefficients
        return float(values[np.isfinite(values)].std())

    def measure_outgoing(self, rows: Rows, beta: Floats) -> MixturePsi:
        """ψ(f' → shortcut) towards every shortcut on the eligible ones of some images, for one β."""
        mixture = self.mixture(beta)
        chosen = self.eligible(rows, mixture)
        walked = walk_mixture(self.memory, chosen, mixture, self.options.search)
        psi = shortcut_psi(walked, self.memory, min_base_change=self.options.min_base_change)
        scale = self.standards()[1]
        psi_logit = shortcut_psi_logit(walked, mixture, scale=scale, base_scale=self._spread(mixture))
        known = np.asarray(np.isfinite(psi).all(axis=1))
        excluded = {"not_eligible": len(rows) - len(chosen)} | _reasons(walked.ends.outcomes, known)
        by_shortcut = (excluded,) * self.shortcuts
        decodes = int(walked.ends.evaluations.sum())
        return MixturePsi(chosen[known], psi[known], psi_logit[known], by_shortcut, decodes)


def _reasons(outcomes: Sequence[Outcome], known: NDArray[np.bool_]) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for outcome, counts in zip(outcomes, known, strict=True):
        if not counts:
            reason = "base_change_too_small" if outcome.walked else outcome.value
            reasons[reason] = reasons.get(reason, 0) + 1
    return reasons


@dataclass(frozen=True)
class _Read:
    """Images as they were read, with what was made of them."""

    origins: Origins
    values: Floats
    """Values of the parts on the images as they came, [image, part]."""
    indices: Rows
    """Position of every image in the source."""
    skipped: int


def prepare(
    source: ImageSource,
    parts: Sequence[Composition],
    *,
    autoencoder: Autoencoder,
    options: RectificationOptions,
    progress: Progress,
    parts_of: NDArray[np.int64] | None = None,
) -> Workbench:
    """Read images until ``limit`` are predicted positive, split them, take all gradients.

    ``parts_of``: as ``parts_named`` gives it; by default the shares of the options, in the order drawn. Raises BadInput
    when the target or a shortcut does not vary over the training images.
    """
    classifiers = tuple(dict.fromkeys(c for part in parts for c in part.classifiers))
    table, models = weights(parts, classifiers), Models(autoencoder, classifiers, options.batch)
    order = generator(options.seed, "rectification").permutation(len(source.ids))
    if parts_of is not None:
        order = order[parts_of[order] >= 0]
    read = _read(source, order, table, models, options, progress)
    memory = remember(read.origins, table, models=models)
    drawn = _drawn(len(read.indices), options) if parts_of is None else parts_of[read.indices]
    train, validation, test = (np.flatnonzero(drawn == part) for part in range(3))
    bench = Workbench(
        memory=memory,
        image_values=read.values,
        indices=read.indices,
        skipped=read.skipped,
        train=train,
        validation=validation,
        test=test,
        incoming=_walk_shortcuts(memory, options) if options.incoming else (),
        options=options,
    )
    _refuse_constant(bench, parts)
    return bench


def _read(
    source: ImageSource,
    order: Rows,
    table: Weights,
    models: Models,
    options: RectificationOptions,
    progress: Progress,
) -> _Read:
    """Images in the given order, until ``limit`` of them are predicted positive on x0, where their walks start."""
    starts: list[Origins] = []
    on_images: list[Floats] = []
    indices: list[int] = []
    skipped = positives = 0
    progress("images", 0, options.limit)
    for loaded in in_batches(source, batch=options.batch, indices=order.tolist()):
        skipped += len(loaded.skipped)
        if not len(loaded):
            continue
        images = loaded.images.to(device_of(models.autoencoder))
        start = origins(images, models.autoencoder, search=options.search)
        both = (images, start.images)
        at_x, at_x0 = (values_of(respond(x, models.classifiers, batch=options.batch), table) for x in both)
        starts.append(start)
        on_images.append(at_x)
        indices += loaded.indices
        positives += _positives(at_x0, table, options)
        progress("images", min(positives, options.limit), options.limit)
        if positives >= options.limit:
            break
    progress("images", options.limit, options.limit)
    if not indices:
        raise BadInput(f"None of the {skipped} images in {source.source!r} can be read.")
    return _Read(joined(starts), np.concatenate(on_images), np.array(indices, dtype=np.int64), skipped)


def _drawn(count: int, options: RectificationOptions) -> Rows:
    """0, 1, 2 for training, validation and test, [image], by the shares of the options."""
    ends = np.round(count * np.cumsum([options.train, options.validation])).astype(int)
    return np.asarray(np.searchsorted(ends, np.arange(count), side="right"))


def parts_named(split: Sequence[str | None], count: int) -> NDArray[np.int64]:
    """0, 1, 2 for the images of training, validation and test, [image]; −1 for the others.

    Raises BadInput where one of the three has no image, and for another number of images.
    """
    if len(split) != count:
        raise BadInput(f"Expected the part of each of the {count} images, got {len(split)}.")
    parts = np.array([_PARTS.get(name.lower(), -1) if name else -1 for name in split], dtype=np.int64)
    if missing := [name for part, name in enumerate(("train", "val", "test")) if not (parts == part).any()]:
        found = ", ".join(sorted({name for name in split if name})) or "none"
        raise BadInput(f"The split needs images for train, val and test; {missing[0]} has none. It has: {found}.")
    return parts


def _walk_shortcuts(memory: Memory, options: RectificationOptions) -> tuple[tuple[Rows, MixtureEnds], ...]:
    """Counterfactuals of every shortcut, walked until it counts as switched off."""
    aim = replace(options.search, drop=max(options.search.off_drop, options.search.drop))
    count = len(memory.parts.on_logit)
    found = []
    for part in range(1, count):
        alone = Mixture(np.eye(count)[part], 0.0, bool(memory.on_logit[part]))
        with np.errstate(invalid="ignore"):
            eligible = memory.scores(memory.values)[:, part] >= options.search.eligible
        rows = np.flatnonzero(eligible)
        found.append((rows, walk_mixture(memory, rows, alone, aim)))
    return tuple(found)


def _positives(values: Floats, table: Weights, options: RectificationOptions) -> int:
    first = values[:, 0]
    score = 1 / (1 + np.exp(-first)) if bool(table.on_logit[0]) else first
    return int((score >= options.search.eligible).sum())


def _refuse_constant(bench: Workbench, parts: Sequence[Composition]) -> None:
    mean, deviation = bench.standards() if len(bench.train) else (np.zeros(len(parts)), np.zeros(len(parts)))
    for i, part in enumerate(parts):
        if not deviation[i] > 1e-6 * (1 + abs(mean[i])):
            raise BadInput(
                f"{'The target' if i == 0 else 'The shortcut'} {part.name!r} gives the same score to all of "
                f"{len(bench.train)} training images; expected some variation: other images, or another head."
            )
