"""The inputs of the paper's figures: images, optional labels, a classifier and an autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cfalign import autoencoders, classifiers
from cfalign._errors import BadInput
from cfalign._runs.progress import Progress, silent
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import ImageSource, Labels, Leftover, TensorImages
from cfalign.synthetic import ATTRIBUTES, render, sample

CLASSES = (
    "mouth_slightly_open",
    "big_nose",
    "male",
    "bushy_eyebrows",
    "arched_eyebrows",
    "smiling",
    "high_cheekbones",
    "pointy_nose",
    "wearing_lipstick",
    "heavy_makeup",
    "oval_face",
    "attractive",
    "young",
)
"""The classes of the paper's Figs. 2 and 8, in its order."""

NATURAL = {
    ("male", "wearing_lipstick"): -0.5,
    ("male", "big_nose"): 0.3,
    ("male", "arched_eyebrows"): -0.3,
    ("male", "bushy_eyebrows"): 0.2,
    ("smiling", "high_cheekbones"): 0.6,
    ("smiling", "mouth_slightly_open"): 0.5,
    ("high_cheekbones", "mouth_slightly_open"): 0.4,
    ("wearing_lipstick", "arched_eyebrows"): 0.3,
    ("young", "big_nose"): -0.25,
}
"""Correlations of labels on the rendered faces, similar to those in photographs of celebrities."""
AT_ONCE = 100
"""Faces rendered between two reports of progress."""


@dataclass(frozen=True)
class FigureInputs:
    """Images, their labels if any, and the models."""

    images: ImageSource
    labels: Labels | None
    classifier: Classifier
    autoencoder: Autoencoder
    rendered: bool = False
    """Whether the images are rendered faces, for which interventions give true effects."""

    def classes(self, wanted: Sequence[str] = CLASSES) -> tuple[tuple[str, ...], dict[str, str]]:
        """The wanted classes that classifier and labels know, and why the others are skipped.

        Raises BadInput if fewer than two are left.
        """
        skipped = {c: "the classifier has no such target" for c in wanted if c not in self.classifier.targets}
        if self.labels is not None:
            known = self.labels.targets
            skipped |= {c: "the labels have no such column" for c in wanted if c not in known and c not in skipped}
        left = tuple(c for c in wanted if c not in skipped)
        if len(left) < 2:
            columns = "" if self.labels is None else " and columns of the labels"
            raise BadInput(
                f"Expected at least two of the classes {', '.join(wanted)} as targets of the classifier{columns}, got "
                f"{len(left)}."
            )
        return left, skipped


def embedded_inputs(*, faces: int = 2000, seed: int = 0, progress: Progress = silent) -> FigureInputs:
    """The embedded models, and rendered faces on which attributes are correlated as they are among people.

    The embedded heads were trained on independent attributes: they do not use the correlations of these faces.
    """
    drawn = sample(faces, seed=seed + 50_000, correlations=NATURAL)
    parts = []
    for start in range(0, faces, AT_ONCE):
        progress("faces", start, faces)
        parts.append(render(drawn[start : start + AT_ONCE]))
    progress("faces", faces, faces)
    images = TensorImages(torch.cat(parts), [f"face_{i:05d}" for i in range(faces)])
    none = Leftover(0, ())
    labels = Labels(images.ids, ATTRIBUTES, drawn.labels().double().numpy(), None, {}, none, none, {})
    return FigureInputs(images, labels, classifiers.load("embedded"), autoencoders.load("embedded"), rendered=True)
