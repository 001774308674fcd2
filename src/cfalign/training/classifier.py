"""Train a classifier with one head per attribute on the user's images and labels."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cfalign._errors import BadInput
from cfalign._models.autoencoding import decoded, encoded
from cfalign._models.device import on_device
from cfalign._models.fingerprint import fingerprint
from cfalign._models.guard import undisturbed
from cfalign._models.weights import parameters
from cfalign._results import Floats
from cfalign._runs.progress import Progress, ShowProgress, told_to, with_bars
from cfalign._types import Autoencoder, Images
from cfalign.classifiers.attribute_network import AttributeNetwork
from cfalign.datasets import Labels, Skipped, target_name
from cfalign.datasets.opening import Openable
from cfalign.training.augmentation import augmented
from cfalign.training.held_out import TargetAuroc, aurocs, mean_auroc
from cfalign.training.loop import TrainingState, fit, seeded
from cfalign.training.objectives import Objective
from cfalign.training.options import ClassifierTraining
from cfalign.training.output_folder import OutputFolder
from cfalign.training.preparation import LabelsGiven, TrainingImages, described, opened_with_labels, planned, prepared
from cfalign.training.splitting import Split, enough, split_images

LEAST_OF_A_KIND = 10
"""Images with an attribute, and without it, among the images of a half that learns it."""
_BATCH = 256
_NAMED = 3


@dataclass(frozen=True)
class ClassifierReport:
    """Files and quality of a trained classifier; the file ``measurement`` says the same in JSON."""

    weights: Path
    """``classifier.safetensors``"""
    measurement: Path
    """``measurement.json``"""
    targets: tuple[TargetAuroc, ...] = field(repr=False)
    """AUROC of every attribute on the held-out images."""
    auroc: float
    """Mean over the attributes that have one; NaN when none has."""
    ci_low: float
    ci_high: float
    """95 % bootstrap interval of the mean, over images."""
    left_out: Mapping[str, str] = field(repr=False)
    """Attributes of the table without a head, with the reason."""
    train: int
    """Images trained on."""
    held_out: int
    """Images measured on."""
    skipped: tuple[Skipped, ...] = field(repr=False)
    """Images that could not be read."""
    split: str
    """The rule by which images are trained on or held out, in a few words."""
    steps: int
    """Batches trained on."""
    seconds: float
    """Time of training over all sittings; without decoding and measuring."""
    already_finished: bool
    """Whether the folder held this training, finished, so that nothing was trained."""


@with_bars
def train_classifier(
    images: Openable,
    labels: LabelsGiven,
    *,
    out: str | os.PathLike[str],
    options: ClassifierTraining | None = None,
    autoencoder: Autoencoder | None = None,
    objective: Objective | None = None,
    progress: ShowProgress = None,
) -> ClassifierReport:
    """Train a classifier on ``images`` (all that ``open_images`` takes) and measure it on held-out ones.

    ``labels``: a table, ``Labels``, or a list of names for the labels that the items of a torch data set bring, as
    ``label_names`` of ``datasets.open_dataset``.
    Labels lie in [0, 1], and above 0.5 counts as positive when measured. Missing ones (NaN) do not count, and images
    without any are left out. ``autoencoder`` serves ``options.reconstructed``. A copy of ``objective`` takes the place
    of the mean loss. ``out`` receives ``classifier.safetensors`` and ``measurement.json``. A training that was stopped
    there goes on, and one that is finished is not repeated. Stages of ``progress``: decode, train, measure.

    A second network, the witness of a first one in audits, has the options ``second(options of the first)``. Attributes
    that the training images do not tell are left out (``ClassifierReport.left_out``): those with one value only, and
    for a ``half`` also those with fewer than 10 images of one kind.

    Raises BadInput for images, a table, attributes or options that cannot be used, such as a ``person_column`` that the
    labels lack, and for a loss that is no longer finite, RunMismatch where ``out`` belongs to another training, and
    StorageFailed where the disk refuses.
    """
    progress = told_to(progress)
    options = ClassifierTraining() if options is None else options
    _check_autoencoder(autoencoder, options)
    source, given = opened_with_labels(images, labels, size=options.size)
    found = learnable(given, options)
    table = found.labels
    shown = () if autoencoder is None else (autoencoder,)
    with on_device(str(options.place)), seeded(options.seed), undisturbed(*shown):
        network = _network(table.targets, options)
        extra = _identity(table, autoencoder if options.reconstructed else None, objective)
        plan = planned(source, table, found.split, out=out, kind="classifier", options=options, extra=extra)
        if (finished := plan.folder.finished()) is not None:
            plan.folder.clean()
            return _report(finished, plan.folder, already_finished=True)
        material = prepared(plan, options, progress=progress)
        values = torch.from_numpy(table.values[list(material.pixels.indices)]).float()
        loss = _Loss(network, material, values, options, autoencoder, copy.deepcopy(objective))
        state = _trained(loss, checkpoint=plan.folder.checkpoint, progress=progress)
        scores = _scores(state.result, material, device=options.place, progress=progress)
    held_out = values[material.held_out].double().numpy()
    content = {
        **described(plan, material),
        "unlabelled": len(source.ids) - found.labelled,
        "left_out": found.left_out,
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        "parameters": parameters(network),
        "auroc": _measured(scores, held_out, table.targets, seed=options.seed),
    }
    plan.folder.end(state.result, network.config, content)
    return _report(content, plan.folder, already_finished=False)


def _check_autoencoder(autoencoder: Autoencoder | None, options: ClassifierTraining) -> None:
    if options.reconstructed and autoencoder is None:
        raise BadInput(
            f"Expected an autoencoder, because `reconstructed` is {options.reconstructed}, got none; give "
            "autoencoder=…, or set reconstructed=0."
        )


def _trained(loss: _Loss, *, checkpoint: Path, progress: Progress) -> TrainingState:
    options, rows = loss.options, loss.material.train
    state = TrainingState(loss.network, options, steps=options.total_steps(len(rows)), objective=loss.objective)
    fit(state, loss, rows=rows, options=options, checkpoint=checkpoint, progress=progress)
    return state


def _network(targets: Sequence[str], options: ClassifierTraining) -> AttributeNetwork:
    return AttributeNetwork(
        targets,
        size=options.size,
        widths=options.widths,
        hidden=options.hidden,
        residual=options.residual,
        dropout=options.dropout,
    )


def _identity(table: Labels, autoencoder: Autoencoder | None, objective: Objective | None) -> dict[str, str]:
    """What makes a training another one, beside its options and images."""
    identity = {"labels": _label_hash(table)}
    if autoencoder is not None:
        identity["autoencoder"] = fingerprint(autoencoder)
    if objective is not None:
        identity["objective"] = fingerprint(objective)
    return identity


class _Loss:
    """Binary cross-entropy of the labels that are there: their mean, or what the objective makes of it."""

    def __init__(
        self,
        network: AttributeNetwork,
        material: TrainingImages,
        values: Tensor,
        options: ClassifierTraining,
        autoencoder: Autoencoder | None,
        objective: Objective | None,
    ) -> None:
        self.network, self.material, self.options, self.autoencoder = network, material, options, autoencoder
        self.objective = objective
        self.positions = torch.tensor(material.pixels.indices, device=options.place)
        self.values = values.to(options.place)
        self.positive_weight = _positive_weight(values[material.train], power=options.balance).to(options.place)

    def __call__(self, rows: Tensor) -> Tensor:
        options = self.options
        images = self.material.pixels.images(rows, device=options.place)
        if self.autoencoder is not None and options.reconstructed:
            images = _reconstructed(images, self.autoencoder, share=options.reconstructed)
        self.network.train()
        logits = self.network(augmented(images, options))
        labels = self.values[rows.to(self.values.device)]
        known = labels.isfinite()
        wanted = labels.nan_to_num() * (1 - options.label_smoothing) + options.label_smoothing / 2
        each = functional.binary_cross_entropy_with_logits(
            logits, wanted, pos_weight=self.positive_weight, reduction="none"
        )
        if self.objective is None:
            return (each * known).sum() / known.sum().clamp_min(1)
        return self.objective.of_labels(each, known, self.positions[rows.to(self.positions.device)])


@torch.no_grad()
def _reconstructed(images: Images, autoencoder: Autoencoder, *, share: float) -> Images:
    chosen = (torch.rand(len(images)) < share).to(images.device)
    if not chosen.any():
        return images
    with undisturbed(autoencoder):
        images[chosen] = decoded(autoencoder, encoded(autoencoder, images[chosen])).to(images).clamp(0, 1)
    return images


def _positive_weight(labels: Tensor, *, power: float) -> Tensor:
    positives = (labels > 0.5).sum(0).clamp_min(1)
    negatives = (labels <= 0.5).sum(0).clamp_min(1)
    return (negatives / positives).float() ** power


@dataclass(frozen=True)
class Learnable:
    """What can be learnt from labels."""

    labels: Labels
    """Of the attributes that get a head."""
    left_out: dict[str, str]
    """Why the others get none, by name."""
    labelled: int
    """How many images have any label to learn."""
    split: Split


def learnable(labels: Labels, options: ClassifierTraining) -> Learnable:
    """What a training with these options learns from the labels of all its images.

    Raises BadInput where that is nothing: too few images, or no attribute with enough of both kinds.
    """
    person = None if options.person_column is None else target_name(options.person_column)
    given = labels.require([target for target in labels.targets if target != person])
    table = given if options.targets is None else given.require(options.targets)
    candidates = _with_a_label(table)
    split = split_images(
        candidates,
        labels=labels,
        share=options.held_out,
        seed=options.seed,
        half=options.half,
        person_column=options.person_column,
        halved=_with_a_label(given),  # whatever is learnt, so that networks of other attributes have the same halves
    )
    enough(len(split.train), len(split.held_out), skipped=0, other_half=split.other_half)
    reasons = _not_learnable(table, split, options)
    if reasons and (options.targets is not None or len(reasons) == len(table.targets)):
        raise BadInput(_refusal(reasons, options))
    learnt = table.require([target for target in table.targets if target not in reasons])
    return Learnable(learnt, reasons, len(candidates), split)


def _with_a_label(labels: Labels) -> list[int]:
    found: list[int] = np.flatnonzero(np.isfinite(labels.values).any(1)).tolist()
    return found


def _not_learnable(labels: Labels, split: Split, options: ClassifierTraining) -> dict[str, str]:
    """Why attributes cannot be learnt from the training images, by name."""
    reasons: dict[str, str] = {}
    for target, column in zip(labels.targets, labels.values[list(split.train)].T, strict=True):
        counts = {"positive": int((column > 0.5).sum()), "negative": int((column <= 0.5).sum())}
        missing = [kind for kind, count in counts.items() if count == 0]
        if options.half != "all" and min(counts.values()) < LEAST_OF_A_KIND:
            held = " and ".join(f"{count} {kind}" for kind, count in counts.items())
            reasons[target] = f"{held} images in the {options.half} half, and {LEAST_OF_A_KIND} of each are needed"
        elif missing:
            reasons[target] = f"no {' and no '.join(missing)} among the training images"
    return reasons


def _refusal(reasons: Mapping[str, str], options: ClassifierTraining) -> str:
    remedy = "" if options.half == "all" else ", or set half=all to learn from both halves"
    if len(reasons) == 1:
        target, reason = next(iter(reasons.items()))
        return f'The attribute "{target}" cannot be learnt: {reason}; leave it out, or add such images{remedy}.'
    named = "; ".join(f'"{target}" ({reason})' for target, reason in [*reasons.items()][:_NAMED])
    more = f" and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
    return f"{len(reasons)} attributes cannot be learnt: {named}{more}; leave them out, or add such images{remedy}."


def _label_hash(labels: Labels) -> str:
    digest = hashlib.sha256(repr(labels.targets).encode())
    digest.update(np.ascontiguousarray(labels.values).tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def _scores(network: nn.Module, material: TrainingImages, *, device: torch.device, progress: Progress) -> Floats:
    parts: list[Tensor] = []
    progress("measure", 0, len(material.held_out))
    for rows in material.held_out.split(_BATCH):
        parts.append(network(material.pixels.images(rows, device=device)).cpu())
        progress("measure", sum(map(len, parts)), len(material.held_out))
    return torch.cat(parts).double().numpy()


def _measured(scores: Floats, labels: Floats, targets: tuple[str, ...], *, seed: int) -> dict[str, Any]:
    mean = mean_auroc(scores, labels, seed=seed)
    return {**asdict(mean), "targets": [asdict(one) for one in aurocs(scores, labels, targets)]}


def _report(content: Mapping[str, Any], folder: OutputFolder, *, already_finished: bool) -> ClassifierReport:
    found = content["auroc"]
    targets = (TargetAuroc(**{**one, "auroc": _number(one["auroc"])}) for one in found["targets"])
    return ClassifierReport(
        weights=folder.weights,
        measurement=folder.measurement,
        targets=tuple(targets),
        auroc=_number(found["mean"]),
        ci_low=_number(found["ci_low"]),
        ci_high=_number(found["ci_high"]),
        left_out=content["left_out"],
        train=content["images"]["train"],
        held_out=content["images"]["held_out"],
        skipped=tuple(Skipped(s["image_id"], s["reason"]) for s in content["skipped"]),
        split=content["split"],
        steps=content["steps"],
        seconds=content["seconds"],
        already_finished=already_finished,
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value  # JSON has no NaN
