"""A name for an unnamed feature: a small head that sees it, and a judge of that head.

The head is trained on walked images of the run: those that were walked to the high end of the feature have it, those
that were walked to the low end have not, and all else is equal in them; the images themselves count by the end that
they lie nearer to. The judge has never seen a walked image. It learns from the run's own images alone: whatever walks
draw beside the feature, both networks would learn to believe in, and the judge would follow the head's counterfactuals
where there is nothing to see.

Networks that learn from images far from the border between both kinds make it steep: a step across it would count as
switching the feature off, though most of the feature is still there. Therefore the logits are scaled afterwards: a
typical image that has the feature scores 0.95, a typical one that has it not 0.05.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cfalign._counterfactuals.batch import float64
from cfalign._errors import BadInput
from cfalign._findings import UnnamedFeature
from cfalign._heads.scoring import respond
from cfalign._models.weights import read_weights, save_weights
from cfalign._results import Floats
from cfalign._runs.codec import damaged
from cfalign._runs.progress import ShowProgress, told_to, with_bars
from cfalign._runs.run import Run
from cfalign._runs.unnamed import JUDGE, MATERIAL, NAMED, folder_of
from cfalign.classifiers.attribute_network import AttributeNetwork
from cfalign.classifiers.by_spec import load
from cfalign.classifiers.wrapped_classifier import WrappedClassifier
from cfalign.datasets import Labels, TensorImages, target_name
from cfalign.datasets.labels import Leftover
from cfalign.training import ClassifierTraining, second, train_classifier
from cfalign.training.classifier import ClassifierReport

UNSURE = 0.25
"""Standard deviations around the border between both kinds of images, in which an image counts as neither."""
TYPICAL = math.log(0.95 / 0.05)
"""The logit of a typical image that has the feature."""
BATCH = 256
"""Images per pass, when logits are measured."""
FEWEST_OF_A_KIND = 10
"""Images of the run with the feature, and without it, that a judge needs."""
WEAK = 0.8
"""AUROC below which a head or a judge deserves a caution."""
STEPS, WIDTHS = 250, (16, 32, 64, 96)
"""A small network is enough for one feature."""
SOURCE = "image"
"""The column that says which image another one was walked from."""


@dataclass(frozen=True)
class NamedFeature:
    """A head that was made of an unnamed feature."""

    name: str
    """The target."""
    folder: Path
    """Of the head: a classifier spec."""
    feature: UnnamedFeature
    head: ClassifierReport
    judge: ClassifierReport

    @property
    def caution(self) -> str:
        """Why its effects may be rough; empty where head and judge tell both kinds of images apart well."""
        weak = [
            f"{who} has AUROC {report.auroc:.2f} on {report.held_out} held-out images"
            for who, report in (("the head", self.head), ("the judge", self.judge))
            if not report.auroc >= WEAK
        ]
        if not weak:
            return ""
        return f"Effects of {self.name} may be rough: {' and '.join(weak)}. Name it in a run of more images."

    def __repr__(self) -> str:
        return f"NamedFeature({self.name!r}, {str(self.folder)!r}, AUROC {self.head.auroc:.2f})"


@with_bars
def name_feature(
    run: Run | str | Path,
    name: str,
    *,
    number: int = 1,
    of: str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    steps: int = STEPS,
    progress: ShowProgress = None,
) -> NamedFeature:
    """Make a reference attribute of an unnamed feature: a head, and an independently trained judge of it.

    Args:
        run: an audit that has sought unnamed features, or its folder.
        name: what a person sees in it.
        number: of the feature, as the report counts those of a head.
        of: the audited head; may be left out where only one has features that were found.
        out: the folder of the head, by default ``named/NAME`` in that of the run. ``classifiers.load`` reads it.
        seed: of the trainings.
        steps: batches of each training; fewer are quicker, and the head may see less.
        progress: True shows bars; a function is called with (stage, done, total).

    Raises BadInput for a feature that the run has not found, and where fewer than 10 of the run's images have it, or
    have it not.
    """
    progress = told_to(progress)
    run = run if isinstance(run, Run) else Run(run)
    target = target_name(name)
    if not target:
        raise BadInput(f"A name needs letters or digits, got {name!r}.")
    feature = _wanted(run, number, of)
    folder = Path(out).expanduser() if out is not None else run.path / NAMED / target
    walked, own = examples_in(run, feature, target)
    side = min(walked.images.shape)
    options = ClassifierTraining(
        size=side - side % 16 or 16,
        seed=seed,
        steps=steps,
        widths=WIDTHS,
        person_column=SOURCE,
        horizontal_flip=False,
    )
    witness = replace(second(options), half="all")
    head = _trained(walked, folder, options, progress)
    judge = _trained(own, folder / JUDGE, witness, progress)
    return NamedFeature(target, folder, feature, head, judge)


def _wanted(run: Run, number: int, of: str | None) -> UnnamedFeature:
    features = run.unnamed()
    if not features:
        raise BadInput(f"{run.path} has sought no unnamed features: audit with --discover N (discovery.features).")
    found = [f for f in features if f.found]
    if not found:
        raise BadInput(f"{run.path} has found no unnamed feature that counts, so there is none to name.")
    heads = list(dict.fromkeys(f.audited for f in found))
    if of is None and len(heads) > 1:
        raise BadInput(f"Several heads have unnamed features: say by --of (of=) which one, of {', '.join(heads)}.")
    audited = heads[0] if of is None else of
    for feature in found:
        if (feature.audited, feature.number) == (audited, number):
            return feature
    known = "; ".join(f"{f.number} of {f.audited}" for f in found)
    raise BadInput(f"{run.path} has found no unnamed feature {number} of {audited!r}; it has {known}.")


@dataclass(frozen=True)
class Examples:
    """Images and what is told of each: whether it has the feature, and which image it was walked from."""

    images: TensorImages
    labels: Labels

    @classmethod
    def of(cls, pictures: Tensor, values: Floats, target: str) -> Examples:
        """Images in 8 bits [image, example, c, h, w], and 1, 0 or NaN of each [image, example]."""
        names = [f"{i:05d}.{example}" for i in range(len(pictures)) for example in range(pictures.shape[1])]
        nothing = Leftover(0, ())
        labels = Labels(
            ids=tuple(names),
            targets=(target,),
            values=values.reshape(-1, 1),
            split=None,
            extra={SOURCE: tuple(name.partition(".")[0] for name in names)},
            unmatched_rows=nothing,
            images_without_row=nothing,
            ignored_columns={},
        )
        return cls(TensorImages(pictures.flatten(0, 1).float() / 255, names), labels)


def _trained(examples: Examples, folder: Path, options: ClassifierTraining, progress: ShowProgress) -> ClassifierReport:
    report = train_classifier(examples.images, examples.labels, out=folder, options=options, progress=progress)
    (values,) = examples.labels.values.T
    scale_logits(report.weights, examples.images, values)
    return report


def examples_in(run: Run, feature: UnnamedFeature, target: str) -> tuple[Examples, Examples]:
    """Images with both ends of their walks, and the run's own images, walked ones or not."""
    file = run.path / folder_of(feature) / MATERIAL
    if not file.is_file():
        raise BadInput(f"The run lacks {file}: parts of it were removed; run the audit again.")
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise damaged(file, error) from error
    pictures, places = tensors["images"], tensors["positions"].numpy()  # the places of all images
    each = (pictures.shape[1] - 1) // 2
    ends = np.array([0.0, 1.0] + [0.0] * (each - 1) + [1.0] * (each - 1))
    own = torch.cat([pictures[:, 0], tensors.get("others", pictures[:0, 0])])  # runs before 2026-12 lack the others
    sides = labelled(places[: len(own)], places)
    _refuse_few(sides, target)
    values = np.column_stack([sides[: len(pictures)], np.tile(ends, (len(pictures), 1))])
    return Examples.of(pictures, values, target), Examples.of(own[:, None], sides[:, None], target)


def _refuse_few(sides: Floats, target: str) -> None:
    high, low = (int((sides == kind).sum()) for kind in (1, 0))
    if min(high, low) < FEWEST_OF_A_KIND:
        raise BadInput(
            f"{high} images of the run lie at the high end of {target} and {low} at the low one; a judge needs at "
            f"least {FEWEST_OF_A_KIND} at each: seek the feature in more images (discovery.images)."
        )


@torch.no_grad()
def scale_logits(weights: Path, images: TensorImages, values: Floats) -> None:
    """Scale the logits of a head of one target: the medians of both kinds of images become logit(0.95) and logit(0.05).

    ``values``: 1, 0 or NaN, [image]. The order of images stays. A head that tells both kinds the wrong way round, or
    not at all, stays as it is. Scaled once more, it stays the same.
    """
    head = load(weights)
    assert isinstance(head, WrappedClassifier)
    network = head.module
    assert isinstance(network, AttributeNetwork)
    logits = float64(respond(images.load(range(len(images.ids))).images, [head], batch=BATCH)[:, 0])
    low, high = (float(np.median(logits[values == kind])) for kind in (0, 1))
    if not high > low:
        return
    factor = 2 * TYPICAL / (high - low)
    last = network.head[-1]
    assert isinstance(last, nn.Linear)
    last.weight.mul_(factor)
    last.bias.mul_(factor).sub_(factor * (low + high) / 2)
    save_weights(weights, network, read_weights(weights, kind="classifier")[1])


def labelled(places: Floats, spread: Floats) -> Floats:
    """1 for images on the high side of the border between two kinds, 0 on the low side, NaN near the border, [image].

    ``spread``: the places of all images. The border is the one that leaves the least variance within both kinds (Otsu).
    """
    ordered = np.sort(spread)
    counts = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)[:-1]
    low, high = sums / counts, (ordered.sum() - sums) / (len(ordered) - counts)
    between = counts * (len(ordered) - counts) * (high - low) ** 2
    best = int(np.argmax(between))
    border = (ordered[best] + ordered[best + 1]) / 2
    unsure = np.abs(places - border) < UNSURE * spread.std()
    return np.where(unsure, np.nan, (places > border).astype(np.float64))
