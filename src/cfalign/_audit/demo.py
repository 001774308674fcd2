"""The demo: an audit of two shipped classifiers with a planted shortcut, on rendered faces."""

from __future__ import annotations

from pathlib import Path

import torch

from cfalign import autoencoders, classifiers
from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run
from cfalign.datasets import TensorImages
from cfalign.synthetic import render, sample

PLANTED = ("big_lips_from_eyeglasses", "chubby_from_pale_skin")
"""Names of shipped classifiers, target_from_shortcut; the first shortcut is an object."""
CORRELATION = 0.9


def demo(
    out: str | Path = "runs/demo",
    *,
    faces: int = 1000,
    options: AuditOptions | None = None,
    progress: Progress = silent,
) -> Run:
    """Audit two classifiers with a planted shortcut on faces that are confounded as their training data were.

    ``faces``: how many faces are rendered; the counterfactuals per base follow ``options.limit`` (60 by default).
    """
    options = options or AuditOptions(limit=60)
    images = confounded_faces(faces, seed=options.seed + 1, names=PLANTED, progress=progress)
    return audit(
        images,
        [classifiers.load(f"embedded:{name}") for name in PLANTED],
        reference=classifiers.load("embedded"),
        autoencoder=autoencoders.load("embedded"),
        options=options,
        out=out,
        progress=progress,
    )


def confounded_faces(count: int, *, seed: int, names: tuple[str, ...], progress: Progress = silent) -> TensorImages:
    """Rendered faces on which every named target goes with its shortcut as in training."""
    pairs = [(name.partition("_from_")[0], name.partition("_from_")[2]) for name in names]
    faces = sample(count, seed=seed, correlations=dict.fromkeys(pairs, CORRELATION))
    parts, step = [], 100
    progress("faces", 0, count)
    for at in range(0, count, step):
        parts.append(render(faces[at : at + step]))
        progress("faces", min(at + step, count), count)
    return TensorImages(torch.cat(parts), [f"face_{i:05d}" for i in range(count)])
