"""Material of a training: images, labels and their split, in a folder that belongs to it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cfalign._errors import BadInput
from cfalign._runs.progress import Progress
from cfalign.datasets import ImageSource, Labels, Openable, Skipped, open_dataset, open_images, read_labels
from cfalign.datasets.inventory import inventory_record
from cfalign.training.decoded_images import DecodedImages, decode_all, forget
from cfalign.training.options import Training
from cfalign.training.output_folder import OutputFolder, open_folder
from cfalign.training.splitting import Split, enough

LabelsGiven = str | os.PathLike[str] | Labels | list[str] | tuple[str, ...]
"""A table or what was read of one, or the names of the labels that the items of a torch data set bring."""


@dataclass(frozen=True)
class TrainingPlan:
    """Everything known before the first image is decoded."""

    folder: OutputFolder
    source: ImageSource
    labels: Labels | None
    split: Split


@dataclass(frozen=True)
class TrainingImages:
    """Decoded images, and which of them are trained on and measured on."""

    pixels: DecodedImages
    train: Tensor
    """Rows of ``pixels`` to train on, [k] int64."""
    held_out: Tensor
    """Rows of ``pixels`` to measure on, [m] int64."""

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Images that could not be read."""
        return self.pixels.skipped


def opened_with_labels(images: Openable, labels: LabelsGiven, *, size: int) -> tuple[ImageSource, Labels]:
    """The images and their labels. Raises BadInput as ``open_dataset`` and ``aligned`` do."""
    if isinstance(labels, (list, tuple)):
        source, table = open_dataset(images, size=size, label_names=labels)
        return source, aligned(table or (), source)
    source = open_images(images, size=size)
    return source, aligned(labels, source)


def aligned(labels: LabelsGiven, source: ImageSource) -> Labels:
    """The labels of these images. Raises BadInput as ``read_labels`` does, and for labels of other images."""
    if isinstance(labels, (list, tuple)):
        raise BadInput(f"labels: expected a table or labels that were read, got the names {list(labels)}.")
    table = labels if isinstance(labels, Labels) else read_labels(labels, ids=source.ids)
    if table.ids != source.ids:
        raise BadInput(
            f"The labels belong to other images: {len(table.ids)} ids that begin with {table.ids[0]!r}, expected the "
            f"{len(source.ids)} of the images, which begin with {source.ids[0]!r}; read them with ids=images.ids."
        )
    return table


def planned(
    source: ImageSource,
    labels: Labels | None,
    split: Split,
    *,
    out: str | os.PathLike[str],
    kind: str,
    options: Training,
    extra: dict[str, Any],
) -> TrainingPlan:
    """Open the folder of a training on the images of a split; nothing is written.

    Raises BadInput for too few images, and as ``open_folder`` does.
    """
    enough(len(split.train), len(split.held_out), skipped=0, other_half=split.other_half)
    options.require_enough(len(split.train))
    digest = hashlib.sha256(repr((split.train, split.held_out)).encode()).hexdigest()[:16]
    folder = open_folder(Path(out), kind=kind, options=options, source=source, extra={"split": digest, **extra})
    return TrainingPlan(folder, source, labels, split)


def prepared(plan: TrainingPlan, options: Training, *, progress: Progress) -> TrainingImages:
    """Decode the images and begin to write to the folder. Raises BadInput when too few images can be read."""
    split, folder = plan.split, plan.folder
    pixels = decode_all(plan.source, sorted((*split.train, *split.held_out)), folder=folder.path, progress=progress)
    material = TrainingImages(pixels, pixels.rows(split.train), pixels.rows(split.held_out))
    try:
        skipped, other = len(pixels.skipped), split.other_half
        enough(len(material.train), len(material.held_out), skipped=skipped, other_half=other)
        options.require_enough(len(material.train))
    except BadInput:
        forget(folder.path)
        raise
    folder.begin()
    return material


def described(plan: TrainingPlan, material: TrainingImages) -> dict[str, Any]:
    """What the measurement says about the images."""
    reading = None if plan.labels is None else plan.labels.reading
    return {
        "source": plan.source.source,
        "images": {
            "train": len(material.train),
            "held_out": len(material.held_out),
            "kept_out": plan.split.kept_out,
            "skipped": len(material.skipped),
        },
        "split": plan.split.how,
        **inventory_record(plan.source),
        "skipped": [{"image_id": s.image_id, "reason": s.reason} for s in material.skipped],
    } | ({} if reading is None else {"labels": reading.as_dict()})
