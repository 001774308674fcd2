"""The run of the benchmark: train on confounded photographs, audit, measure gaps by labels, and compare.

For a target and a confounder, subsets of the training split are chosen in which the two are correlated at several
doses, and a small classifier is trained on each subset. Two independent measurements are made on images of another
split: the estimated effect of the confounder on the classifier (reference heads and autoencoder, no labels), and the
classifier's worst-group gap (labels, no counterfactuals). A correct effect rises with the dose, and ranks the
classifiers as their gaps do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfalign._audit.audit import audit
from cfalign._audit.bank import bank
from cfalign._audit.options import AuditOptions
from cfalign._audit.reference import reference_of
from cfalign._counterfactuals.options import SearchOptions
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._results import Cell, Effect, Floats, GroupGap
from cfalign._runs.codec import as_json, write_json
from cfalign._runs.progress import ShowProgress, told_to, with_bars
from cfalign._runs.run import Run
from cfalign._types import Autoencoder, Classifier
from cfalign.benchmarks.agreement import spearman
from cfalign.benchmarks.ledger import claim
from cfalign.benchmarks.photographs.options import PhotographsOptions
from cfalign.benchmarks.photographs.plan import Ids, PhotographsPlan, PlannedPair, planned
from cfalign.benchmarks.photographs.result import ConfoundedClassifier, Photographs, read
from cfalign.benchmarks.photographs.worst_group import WorstGroupGaps, worst_group_gaps
from cfalign.datasets import ImageSource, Labels
from cfalign.datasets.image_source import in_batches
from cfalign.training.processes import Workers
from cfalign.training.recipes.confounded_subsets import GROUPS, load_confounded, train_all

BATCH = 256


@with_bars
def photographs(
    images: ImageSource,
    labels: Labels,
    *,
    reference: Classifier | Reference,
    autoencoder: Autoencoder,
    out: str | Path,
    options: PhotographsOptions | None = None,
    workers: Workers = 2,
    progress: ShowProgress = None,
) -> Photographs:
    """Train classifiers on confounded subsets of ``images``, and compare effects with gaps on held-out images.

    Args:
        images: images in the size of the autoencoder.
        labels: labels with a column ``split``.
        reference: reference heads, one for every confounder; they may have been trained on the training split.
        autoencoder: autoencoder of such images.
        out: folder of the classifiers, the bank and its audit; a stopped benchmark is resumed there.
        options: pairs, doses, seeds and numbers of images.
        workers: parallel trainings, in one thread each; or the workers of Ray, ``cfa.engines.Ray()``.
        progress: True shows bars; a function is called with (stage, done, total).

    Raises BadInput for labels without the attributes or splits, for a confounder without a reference head, and if no
    pair has enough images; RunMismatch if ``out`` belongs to other settings, images or labels.
    """
    progress = told_to(progress)
    options, folder = options or PhotographsOptions(), Path(out).expanduser()
    _require_heads(reference_of(reference).classifier, options)
    plan = planned(labels, options)
    identity = {"options": as_json(asdict(options)), "images": images.fingerprint(), "labels": plan.fingerprint()}
    claim(folder, identity, file="benchmark.json")
    place, recipe = folder / "classifiers", options.recipe
    train_all(plan.tasks, images, labels, place, recipe=recipe, workers=workers, progress=progress)
    classifiers = [load_confounded(task.one, place) for task in plan.tasks]
    search = SearchOptions(residual=options.residual)
    settings = AuditOptions(limit=options.limit, seed=options.seed, shown=0, search=search)
    held_out = images.subset(labels.in_split(options.split))
    shared = bank(
        held_out, reference, autoencoder=autoencoder, out=folder / "bank", options=settings, progress=progress
    )
    run = audit(shared, classifiers, out=folder / "audit", options=settings, progress=progress)
    gaps = _gaps(plan, classifiers, images, options.seed)
    repeats = _repeated(list(gaps.values()))
    rows = _rows(run, plan, gaps)
    result = read(plan.pairs, rows, left_out=plan.left_out, gap_repeats=repeats, seed=options.seed)
    write_json(folder / "summary.json", result.as_dict())
    return result


def _require_heads(reference: Classifier, options: PhotographsOptions) -> None:
    for _, confounder in options.pairs:
        if confounder not in reference.targets:
            raise BadInput(
                f"Expected a reference head for the confounder {confounder!r}, but {reference.name!r} has none: give "
                "another reference, or leave the pair out."
            )


def _gaps(
    plan: PhotographsPlan, classifiers: Sequence[Classifier], images: ImageSource, seed: int
) -> dict[tuple[str, str], WorstGroupGaps]:
    """Gaps by pair; the classifiers are in the order of their tasks."""
    found, start = {}, 0
    for pair in plan.pairs:
        mine = classifiers[start : start + len(pair.tasks)]
        scores = [_scores(pair, number, images, mine) for number in range(len(GROUPS))]
        found[pair.names] = worst_group_gaps(scores, seed=seed, name=" ".join(pair.names))
        start += len(pair.tasks)
    return found


@torch.no_grad()
def _scores(pair: PlannedPair, number: int, images: ImageSource, classifiers: Sequence[Classifier]) -> Floats:
    """Probabilities [image, classifier] on the group with this number. Unreadable images do not count."""
    group: Ids = pair.measured[number]
    with undisturbed(*classifiers):
        parts = [
            torch.sigmoid(respond(loaded.images, classifiers)).double()
            for loaded in in_batches(images.subset(list(group)), batch=BATCH)
            if len(loaded)
        ]
    if not parts:
        target, confounder = GROUPS[number]
        raise BadInput(
            f"Expected readable images with {pair.target}={target} and {pair.confounder}={confounder}, but none can be "
            "read: check the image folder."
        )
    scores: Floats = torch.cat(parts).numpy()
    return scores


def _rows(
    run: Run, plan: PhotographsPlan, label_gaps: Mapping[tuple[str, str], WorstGroupGaps]
) -> list[ConfoundedClassifier]:
    """One per classifier, in the order of the plan."""
    labels = iter(run.record()["audited"])
    readings = _Readings.of(run)
    return [
        _row(pair, k, readings, next(labels), label_gaps[pair.names])
        for pair in plan.pairs
        for k in range(len(pair.tasks))
    ]


@dataclass(frozen=True)
class _Readings:
    """What the audit says of all classifiers."""

    effects: Mapping[str, Mapping[str, Effect]]
    """By audited head and attribute."""
    gaps: Mapping[tuple[str, str], GroupGap]
    """By audited head and attribute."""
    cells: Mapping[tuple[str, str], Cell]
    """By base and downstream head."""

    @classmethod
    def of(cls, run: Run) -> _Readings:
        effects: dict[str, dict[str, Effect]] = {}
        for effect in run.rows(Effect):
            effects.setdefault(effect.audited, {})[effect.attribute] = effect
        gaps = {(gap.audited, gap.attribute): gap for gap in run.rows(GroupGap)}
        cells = {(cell.base, cell.downstream): cell for cell in run.cells()}
        return cls(effects, gaps, cells)


def _row(pair: PlannedPair, k: int, readings: _Readings, label: str, gaps: WorstGroupGaps) -> ConfoundedClassifier:
    """The classifier of the pair's task ``k``; ``label``: its name in the run."""
    task = pair.tasks[k]
    effect = readings.effects[label][pair.confounder]
    gap = readings.gaps[label, pair.confounder]
    cell = readings.cells[pair.confounder, label]
    rank, attributes = _rank(readings.effects[label], pair)
    return ConfoundedClassifier(
        target=pair.target,
        confounder=pair.confounder,
        dose=task.one.dose,
        seed=task.one.seed,
        effect=effect.effect,
        ci_low=effect.ci_low,
        ci_high=effect.ci_high,
        q=effect.q,
        group_gap=gap.gap,
        group_gap_low=gap.ci_low,
        group_gap_high=gap.ci_high,
        incoming=cell.psi,
        incoming_low=cell.ci_low,
        incoming_high=cell.ci_high,
        incoming_logit=cell.psi_logit,
        n=effect.n,
        rank=rank,
        attributes=attributes,
        **_label_gaps(gaps, k),
    )


def _rank(effects: Mapping[str, Effect], pair: PlannedPair) -> tuple[int, int]:
    """Rank of the confounder by |effect| on one classifier (0 where unknown), and the number of ranked attributes."""
    sizes = {attribute: abs(effect.effect) for attribute, effect in effects.items() if attribute != pair.target}
    known = [size for size in sizes.values() if np.isfinite(size)]
    own = sizes[pair.confounder]
    return (1 + sum(size > own for size in known) if np.isfinite(own) else 0), len(known)


def _label_gaps(found: WorstGroupGaps, k: int) -> dict[str, Any]:
    """Gaps of the classifier in column ``k``, as fields of ``ConfoundedClassifier``."""
    (low, high), (prediction_low, prediction_high) = found.interval("worst"), found.interval("prediction")
    return {
        "accuracies": tuple(found.accuracies[:, k].tolist()),
        "gap": float(found.worst[k]),
        "gap_low": float(low[k]),
        "gap_high": float(high[k]),
        "gap_error": float(found.worst_drawn[:, k].std(ddof=1)),
        "prediction_gap": float(found.prediction[k]),
        "prediction_gap_low": float(prediction_low[k]),
        "prediction_gap_high": float(prediction_high[k]),
    }


def _repeated(found: Sequence[WorstGroupGaps]) -> float:
    """Mean rank correlation of resampled gaps with the measured ones, over resamples of the images."""
    measured = np.concatenate([gaps.worst for gaps in found])
    drawn = np.concatenate([gaps.worst_drawn for gaps in found], axis=-1)
    return float(np.nanmean(spearman(np.broadcast_to(measured, drawn.shape), drawn)))
