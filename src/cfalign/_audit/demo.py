"""The demo: an audit of three shipped classifiers with a planted shortcut, on rendered faces.

The shortcuts of two have a reference head, which names them. That of the third has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cfalign import autoencoders, classifiers
from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._audit.remade import AtHand
from cfalign._discovery.options import DiscoveryOptions
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run
from cfalign.datasets import TensorImages
from cfalign.datasets.image_source import Keep, Loaded, checked_indices
from cfalign.synthetic import Faces, render, sample
from cfalign.synthetic.drawing import SIZE

PLANTED = ("big_lips_from_eyeglasses", "chubby_from_pale_skin")
"""Names of shipped classifiers, target_from_shortcut; the first shortcut is an object."""
UNNAMED = "young_from_wearing_hat"
"""The one whose shortcut no reference head names."""
CORRELATION = 0.9
DISCOVERY = DiscoveryOptions(features=1, images=240, looks=24)


def demo(
    out: str | Path = "runs/demo",
    *,
    faces: int = 1000,
    options: AuditOptions | None = None,
    progress: Progress = silent,
) -> Run:
    """Audit three classifiers with a planted shortcut. The faces are confounded as the training data of the two whose
    shortcut is named were; a feature without a name is sought for all of them.

    ``faces``: how many faces are rendered; the counterfactuals per base follow ``options.limit`` (60 by default).
    """
    options = replace(options or AuditOptions(limit=60), discovery=DISCOVERY)
    reference, hidden = classifiers.load("embedded"), UNNAMED.partition("_from_")[2]
    images = confounded_faces(faces, seed=options.seed + 1, names=PLANTED, progress=progress)
    return audit(
        images,
        [classifiers.load(f"embedded:{name}") for name in (*PLANTED, UNNAMED)],
        reference=reference,
        autoencoder=autoencoders.load("embedded"),
        downstream=[target for target in reference.targets if target != hidden],
        options=options,
        out=out,
        progress=progress,
    )


def demo_at_hand(faces: int, *, seed: int) -> AtHand:
    """The images and models of a demo of so many faces."""
    specs = ("embedded", *(f"embedded:{name}" for name in (*PLANTED, UNNAMED)))
    heads = [classifiers.load(spec) for spec in specs]
    return AtHand(DrawnOnDemand(faces, seed + 1), autoencoders.load("embedded"), heads)


class DrawnOnDemand:
    """The faces of a demo as an image source that draws only those that are asked for."""

    def __init__(self, count: int, seed: int) -> None:
        self._faces = _confounded(count, seed, PLANTED)
        self._count, self._seed = count, seed
        self.ids = _names(count)
        self.shape = (SIZE, SIZE)
        self.source = "tensor"

    def load(self, indices: Sequence[int], /) -> Loaded:
        """The faces at these positions."""
        wanted = checked_indices(indices, count=self._count)
        return Loaded(images=render(self._faces[list(wanted)]), indices=wanted, skipped=())

    def subset(self, keep: Keep, /) -> TensorImages:
        """Some of the faces, all of them drawn first."""
        return self._drawn().subset(keep)

    def fingerprint(self) -> str:
        """That of all faces, drawn."""
        return self._drawn().fingerprint()

    def _drawn(self) -> TensorImages:
        return confounded_faces(self._count, seed=self._seed, names=PLANTED)


def confounded_faces(count: int, *, seed: int, names: tuple[str, ...], progress: Progress = silent) -> TensorImages:
    """Rendered faces on which every named target goes with its shortcut as in training."""
    faces = _confounded(count, seed, names)
    parts, step = [], 100
    progress("faces", 0, count)
    for at in range(0, count, step):
        parts.append(render(faces[at : at + step]))
        progress("faces", min(at + step, count), count)
    return TensorImages(torch.cat(parts), _names(count))


def _confounded(count: int, seed: int, names: tuple[str, ...]) -> Faces:
    pairs = [(name.partition("_from_")[0], name.partition("_from_")[2]) for name in names]
    return sample(count, seed=seed, correlations=dict.fromkeys(pairs, CORRELATION))


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"face_{i:05d}" for i in range(count))
