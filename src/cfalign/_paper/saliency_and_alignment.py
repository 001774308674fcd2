"""The measurements behind Fig. 4: similarity of saliency maps, alignment, and truth for every head and attribute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from cfalign import classifiers, synthetic
from cfalign._analysis.statistics import auroc, bootstrap_counts, generator, percentile_interval, weighted_auroc
from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._explanation.saliency import attributions, similarity
from cfalign._heads.composition import Composition, head
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._paper.figure_inputs import CLASSES, FigureInputs
from cfalign._results import Effect, Floats
from cfalign._runs.progress import Progress
from cfalign._runs.run import Run
from cfalign.synthetic import INTERVENABLE, sample

USED = 0.1
"""A head uses an attribute if an intervention on it moves the head's mean score by more than this."""
ALIGNMENT_READINGS = ("outgoing ψ", "incoming ψ", "effect")
COLUMNS = dict(zip(ALIGNMENT_READINGS, ("outgoing", "incoming", "effect"), strict=True))
"""Reading → its column in ``effects.csv``."""
RESAMPLES = 1000

Heads = Mapping[str, Composition]
Maps = Mapping[Composition, Mapping[str, Tensor]]
"""Saliency maps [image, h, w] by head and method."""


@dataclass(frozen=True)
class DetectorScore:
    """How well one detector ranks the pairs that are truly used above the others."""

    name: str
    auroc: float
    ci_low: float
    ci_high: float
    """95 % bootstrap interval over heads."""


@dataclass(frozen=True)
class PairReadings:
    """The readings of all pairs, and what they were taken from."""

    table: pl.DataFrame
    """See ``SaliencyStudy``."""
    similarities: tuple[str, ...]
    """Columns of the table with similarities of maps."""
    images: int
    """Number of images with saliency maps."""
    maps: Maps
    attributes: Heads
    run: Run
    """The audit of the same heads."""


def read_pairs(
    inputs: FigureInputs,
    out: str | Path,
    *,
    images: int,
    interventions: int,
    options: AuditOptions,
    progress: Progress,
) -> PairReadings:
    """Maps of ``images`` images, an audit in ``out``, and for rendered faces the truth from ``interventions`` faces."""
    heads, attributes = _heads(inputs)
    some = inputs.images.load(list(range(min(images, len(inputs.images.ids))))).images
    maps = _maps(some, (*heads.values(), *attributes.values()), progress)
    alike = _similarities(maps, heads, attributes)
    run = audit(
        inputs.images,
        list(heads.values()),
        autoencoder=inputs.autoencoder,
        reference=inputs.classifier if inputs.rendered else None,
        downstream=list(attributes),
        options=options,
        out=out,
        progress=progress,
    )
    aligned = _aligned(run, heads, inputs.rendered)
    truth = _truth(heads, interventions, options.seed, progress) if inputs.rendered else {}
    rows = []
    for i, name in enumerate(heads):
        for j, attribute in enumerate(attributes):
            if name == attribute or heads[name].terms[0][1].target == attribute:
                continue
            row: dict[str, Any] = {"head": name, "attribute": attribute}
            row |= {key: float(values[i, j]) for key, values in alike.items()}
            row |= aligned[name, attribute]
            if truth:
                row["truth"] = truth[name, attribute]
            rows.append(row)
    table = pl.DataFrame(rows, infer_schema_length=None)
    return PairReadings(table, tuple(alike), len(some), maps, attributes, run)


def _heads(inputs: FigureInputs) -> tuple[dict[str, Composition], dict[str, Composition]]:
    """The heads, and the attributes that they are compared with."""
    if not inputs.rendered:
        kept, _ = inputs.classes(CLASSES)
        own = {name: head(inputs.classifier, name) for name in kept}
        return own, own
    heads: dict[str, Composition] = {}
    for name in (*classifiers.planted(), "big_nose_everywhere"):
        owner = classifiers.load(f"embedded:{name}")
        for target in owner.targets:
            heads[name if len(owner.targets) == 1 else f"{name}.{target}"] = head(owner, target)
    return heads, {target: head(inputs.classifier, target) for target in INTERVENABLE}


def _maps(images: Tensor, heads: Iterable[Composition], progress: Progress) -> Maps:
    every = list(dict.fromkeys(heads))
    maps: dict[Composition, Mapping[str, Tensor]] = {}
    for number, base in enumerate(every):
        progress("saliency maps", number, len(every))
        maps[base] = {method: found.abs().mean(dim=1) for method, found in attributions(images, base).items()}
    progress("saliency maps", len(every), len(every))
    return maps


def _similarities(maps: Maps, heads: Heads, attributes: Heads) -> dict[str, Floats]:
    """By kind of similarity: [head, attribute]; only methods that work for all classifiers."""
    methods = min((maps[base] for base in (*heads.values(), *attributes.values())), key=len)
    found: dict[str, Floats] = {}
    for method in methods:
        mine, theirs = (torch.stack([maps[base][method] for base in side.values()]) for side in (heads, attributes))
        cosine, iou = similarity(mine, theirs)
        found |= {f"{method}, cosine": cosine.numpy(), f"{method}, IoU": iou.numpy()}
    return found


def _aligned(run: Run, heads: Iterable[str], rendered: bool) -> dict[tuple[str, str], dict[str, float]]:
    """By (head, attribute): readings of the audit."""
    labels = dict(zip(run.record()["audited"], heads, strict=True))
    if not rendered:
        cells = [cell for cell in run.cells() if cell.base in labels]
        return {(labels[cell.base], cell.downstream): {ALIGNMENT_READINGS[0]: cell.psi} for cell in cells}
    return {
        (labels[effect.audited], effect.attribute): {name: getattr(effect, column) for name, column in COLUMNS.items()}
        for effect in run.rows(Effect)
    }


def _truth(heads: Heads, faces: int, seed: int, progress: Progress) -> dict[tuple[str, str], float]:
    """By (head, attribute): mean change of the head's score when only the attribute is switched on."""
    owners = list(dict.fromkeys(classifier for base in heads.values() for classifier in base.classifiers))
    progress("interventions", 0, 1)
    with undisturbed(*owners):
        table = synthetic.effect(
            lambda x: torch.sigmoid(respond(x, owners)), sample(faces, seed=seed + 30_000)
        ).tolist()
    progress("interventions", 1, 1)
    return {
        (name, attribute): row[k]
        for attribute, row in zip(INTERVENABLE, table, strict=True)
        for k, name in enumerate(heads)
    }


def between_concepts(concepts: tuple[str, str], read: PairReadings) -> dict[str, Any]:
    """Similarity of two concepts' maps by method, and ψ in both directions with interval and n."""
    one, two = ({concept: read.attributes[concept]} for concept in concepts)
    alike = _similarities(read.maps, one, two)
    found: dict[str, Any] = {name: float(value[0, 0]) for name, value in alike.items()}
    cells = {(cell.base, cell.downstream): cell for cell in read.run.cells()}
    for base, downstream in (concepts, concepts[::-1]):
        cell = cells[base, downstream]
        numbers = {name: getattr(cell, name) for name in ("psi", "ci_low", "ci_high", "n")}
        found[f"ψ {base} → {downstream}"] = numbers
    return found


def scored(table: pl.DataFrame, names: Sequence[str], seed: int) -> tuple[tuple[DetectorScore, ...], int, int]:
    """AUROC of every reading for truly used pairs, best first; the number of pairs; the number of used pairs.

    Only pairs count whose readings are all defined.
    """
    known = table.filter(pl.all_horizontal(pl.col(name).is_finite() for name in names))
    used = (np.abs(known["truth"].to_numpy()) > USED).astype(np.float64)
    owners = known["head"].cast(pl.Categorical).to_physical().to_numpy()
    unique, place = np.unique(owners, return_inverse=True)
    counts = bootstrap_counts(len(unique), resamples=RESAMPLES, rng=generator(seed, "heads"))[:, place]
    found = []
    for name in names:
        reading = np.abs(known[name].to_numpy())
        low, high = percentile_interval(weighted_auroc(reading, used, counts)[:, None])
        found.append(DetectorScore(name, auroc(reading, used), float(low[0]), float(high[0])))
    return tuple(sorted(found, key=lambda detector: -detector.auroc)), len(known), int(used.sum())
