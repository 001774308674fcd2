"""The run of the benchmark: train on confounded photographs, audit, measure gaps by labels, and compare.

For a target and a confounder, images are chosen from the training split so that the two are correlated at several
doses, and a small classifier is trained on each choice. On images of another split two things are measured that know
nothing of each other: the estimated effect of the confounder on the classifier (reference heads, autoencoder, no
label), and the classifier's worst-group gap (labels, no counterfactual). If the effect is what it says, it rises with
the dose and ranks the classifiers as their gaps do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cfalign._audit.audit import audit
from cfalign._audit.bank import bank
from cfalign._audit.options import AuditOptions
from cfalign._audit.reference import reference_of
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._results import Effect, Floats, GroupGap
from cfalign._runs.codec import as_json, write_json
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run
from cfalign._types import Autoencoder, Classifier
from cfalign.benchmarks.ledger import claim
from cfalign.benchmarks.photographs.options import PhotographsOptions
from cfalign.benchmarks.photographs.plan import Ids, PhotographsPlan, PlannedPair, planned
from cfalign.benchmarks.photographs.result import ConfoundedClassifier, Photographs, read
from cfalign.benchmarks.photographs.worst_group import WorstGroupGaps, worst_group_gaps
from cfalign.benchmarks.scoring import spearman
from cfalign.datasets import ImageSource, Labels
from cfalign.datasets.image_source import in_batches
from cfalign.training.recipes.confounded_subsets import GROUPS, load_confounded, train_all

BATCH = 256


def photographs(
    images: ImageSource,
    labels: Labels,
    *,
    reference: Classifier | Reference,
    autoencoder: Autoencoder,
    out: str | Path,
    options: PhotographsOptions | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> Photographs:
    """Train classifiers on confounded subsets of ``images``, and compare effects with gaps on held-out images.

    Args:
        images: in the size that the autoencoder works on.
        labels: with a column ``split``.
        reference: with a head for every confounder; it may have been trained on the training split.
        autoencoder: of such images.
        out: keeps the classifiers, the bank and its audit; a stopped benchmark goes on there.
        options: pairs, doses, seeds, numbers of images.
        workers: classifiers that are trained at a time, in one thread each.
        progress: called with (stage, done, total).

    Raises BadInput for labels without the attributes or splits, for a confounder that the reference does not know, and
    if no pair has enough images; RunMismatch if ``out`` belongs to other settings, images or labels.
    """
    options, folder = options or PhotographsOptions(), Path(out).expanduser()
    _require_heads(reference_of(reference).classifier, options)
    plan = planned(labels, options)
    identity = {"options": as_json(asdict(options)), "images": images.fingerprint(), "labels": plan.fingerprint()}
    claim(folder, identity, file="benchmark.json")
    place, recipe = folder / "classifiers", options.recipe
    train_all(plan.tasks, images, labels, place, recipe=recipe, workers=workers, progress=progress)
    classifiers = [load_confounded(task.one, place) for task in plan.tasks]
    held_out = images.subset(labels.in_split(options.split))
    settings = AuditOptions(limit=options.limit, seed=options.seed, shown=0)
    made = bank(
        held_out, reference, autoencoder=autoencoder, out=folder / "bank", options=settings, progress=progress
    )  # counterfactuals that all classifiers answer to
    run = audit(made, classifiers, out=folder / "audit", options=settings, progress=progress)
    gaps = _gaps(plan, classifiers, images, options.seed)
    rows = _rows(run, plan, gaps)
    repeats = _repeated(list(gaps.values()))
    result = read(plan.pairs, rows, left_out=plan.left_out, gap_repeats=repeats, seed=options.seed)
    write_json(folder / "summary.json", result.as_dict())
    return result


def _require_heads(reference: Classifier, options: PhotographsOptions) -> None:
    for _, confounder in options.pairs:
        if confounder not in reference.targets:
            raise BadInput(f"The reference {reference.name!r} has no head for the confounder {confounder!r}.")


def _gaps(
    plan: PhotographsPlan, classifiers: Sequence[Classifier], images: ImageSource, seed: int
) -> dict[tuple[str, str], WorstGroupGaps]:
    """By pair; its classifiers in the order of their tasks."""
    found, start = {}, 0
    for pair in plan.pairs:
        mine = classifiers[start : start + len(pair.tasks)]
        scores = [_scores(pair, number, images, mine) for number in range(len(GROUPS))]
        found[pair.names] = worst_group_gaps(scores, seed=seed, name=" ".join(pair.names))
        start += len(pair.tasks)
    return found


@torch.no_grad()
def _scores(pair: PlannedPair, number: int, images: ImageSource, classifiers: Sequence[Classifier]) -> Floats:
    """Probabilities [image, classifier] on the group with this number. Images that cannot be read do not count."""
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
            f"None of the images with {pair.target}={target} and {pair.confounder}={confounder} can be read."
        )
    scores: Floats = torch.cat(parts).numpy()
    return scores


def _rows(
    run: Run, plan: PhotographsPlan, label_gaps: Mapping[tuple[str, str], WorstGroupGaps]
) -> list[ConfoundedClassifier]:
    labels = iter(run.record()["audited"])
    effects: dict[str, dict[str, Effect]] = {}
    for effect in run.rows(Effect):
        effects.setdefault(effect.audited, {})[effect.attribute] = effect
    gaps = {(gap.audited, gap.attribute): gap for gap in run.rows(GroupGap)}
    cells = {(cell.base, cell.downstream): cell for cell in run.cells()}
    rows = []
    for pair in plan.pairs:
        for k, task in enumerate(pair.tasks):
            label = next(labels)
            effect, cell, gap = (
                effects[label][pair.confounder],
                cells[pair.confounder, label],
                gaps[label, pair.confounder],
            )
            rank, attributes = _rank(effects[label], pair)
            row = ConfoundedClassifier(
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
                **_label_gaps(label_gaps[pair.names], k),
            )
            rows.append(row)
    return rows


def _rank(effects: Mapping[str, Effect], pair: PlannedPair) -> tuple[int, int]:
    """Place of the confounder by |effect| on one classifier (0 where unknown), and among how many attributes."""
    sizes = {attribute: abs(effect.effect) for attribute, effect in effects.items() if attribute != pair.target}
    known = [size for size in sizes.values() if np.isfinite(size)]
    own = sizes[pair.confounder]
    return (1 + sum(size > own for size in known) if np.isfinite(own) else 0), len(known)


def _label_gaps(found: WorstGroupGaps, k: int) -> dict[str, Any]:
    """Of the classifier in column ``k``."""
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
    """Mean rank correlation, over resamples of the images, of the gaps drawn with those measured."""
    measured = np.concatenate([gaps.worst for gaps in found])
    drawn = np.concatenate([gaps.worst_drawn for gaps in found], axis=-1)
    return float(np.nanmean(spearman(np.broadcast_to(measured, drawn.shape), drawn)))
