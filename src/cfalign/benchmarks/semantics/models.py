"""Heads, judge and autoencoder of anybody's photographs, trained where none are given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cfalign import autoencoders, classifiers
from cfalign._heads.reference import Reference
from cfalign._runs.progress import Progress, silent
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import ImageSource, Labels
from cfalign.training import AutoencoderTraining, ClassifierTraining, train_autoencoder, train_classifier
from cfalign.training.options import second


def trained(
    images: ImageSource,
    labels: Labels,
    *,
    out: Path,
    size: int,
    heads: Classifier | None = None,
    judge: Classifier | None = None,
    autoencoder: Autoencoder | None = None,
    progress: Progress = silent,
) -> tuple[Reference, Autoencoder]:
    """What is given, and what is missing trained on ``images`` below ``out`` by the default settings.

    The judge has another seed and another architecture than the heads, and learns from the same images. A stopped
    training goes on. Raises BadInput as the trainings do.
    """
    first = ClassifierTraining(size=size, residual=False)
    other = replace(second(first), half="all", epochs=first.epochs)
    if heads is None:
        report = train_classifier(images, labels, out=out / "heads", options=first, progress=progress)
        heads = classifiers.load(str(report.weights))
    if judge is None:
        report = train_classifier(images, labels, out=out / "judge", options=other, progress=progress)
        judge = classifiers.load(str(report.weights))
    if autoencoder is None:
        options = AutoencoderTraining(size=size)
        found = train_autoencoder(images, out=out / "autoencoder", options=options, progress=progress)
        autoencoder = autoencoders.load(str(found.weights))
    return Reference(heads, judge), autoencoder
