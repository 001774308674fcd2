"""Fig. 4 as numbers: does it show in saliency maps that one head uses another's feature, and does it show in ψ?

Maps of two concepts that lie in one place look alike, whether or not either is used by the other's head. For rendered
faces interventions say what is used, so that both ways of telling can be scored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from scipy.stats import spearmanr
from torch import Tensor

from cfalign import classifiers
from cfalign._analysis.statistics import auroc, bootstrap_counts, generator, percentile_interval, weighted_auroc
from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._explanation.explanation import Explanation
from cfalign._explanation.options import ExplainOptions
from cfalign._explanation.saliency import attributions, similarity
from cfalign._heads.composition import Composition, head
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._paper.material import CLASSES, Material
from cfalign._paper.studies import study
from cfalign._results import Floats
from cfalign._runs.progress import Progress, silent
from cfalign._runs.run import Run
from cfalign.synthetic import INTERVENABLE, effect, sample

CONCEPTS = ("pointy_nose", "big_nose")
USED = 0.1
"""A head uses an attribute whose intervention moves its mean score by more than this."""
ALIGNMENT_READINGS = ("outgoing ψ", "incoming ψ", "effect")
RESAMPLES = 1000


@dataclass(frozen=True)
class Detector:
    """How well one way of telling ranks the pairs that are truly used above the others."""

    name: str
    auroc: float
    ci_low: float
    ci_high: float
    """95 % bootstrap interval over the heads looked at."""


@dataclass(frozen=True)
class SaliencyStudy:
    """Similarity of saliency maps beside alignment, over all pairs of heads."""

    shown: Explanation
    """One image with the maps of both concepts."""
    concepts: Mapping[str, Any]
    """Of the two concepts: similarity of their maps by method, ψ each way with interval and n."""
    table: pl.DataFrame
    """One row per pair (head, attribute): cosine and IoU of the top 10 % by method, ψ, and for rendered faces incoming
    ψ, effect and truth, the mean change of the head's score when the attribute alone is switched on.
    """
    images: int
    """Images that maps were made of."""
    detectors: tuple[Detector, ...]
    """By AUROC for |truth| > 0.1, on the pairs where all are defined; none without truth."""
    pairs: int
    used: int
    correlation: Mapping[str, float]
    """Spearman's rank correlation of every similarity with |ψ|, over pairs where ψ is defined."""


def saliency_study(
    material: Material,
    out: str | Path,
    *,
    concepts: tuple[str, str] = CONCEPTS,
    images: int = 16,
    interventions: int = 50,
    options: AuditOptions | None = None,
    progress: Progress = silent,
) -> SaliencyStudy:
    """Maps of ``images`` images for every head; an audit of the same heads goes to ``out``.

    Rendered faces: all shipped classifiers with a planted shortcut, their twins and ``big_nose_everywhere`` against the
    attributes of the embedded classifier that can be intervened on; a derived one, such as attractive, would take the
    effect of its causes upon itself. Other images: the classes of the paper against each other, without a truth.
    BadInput: fewer than two classes.
    """
    options = options or AuditOptions(limit=60, shown=0)
    shown = study(material, *concepts, options=ExplainOptions(increase=True))
    heads, attributes = _heads(material)
    some = material.images.load(list(range(min(images, len(material.images.ids))))).images
    maps = _maps(some, (*heads.values(), *attributes.values()), progress)
    alike = _similarities(maps, heads, attributes)
    run = audit(
        material.images, list(heads.values()), autoencoder=material.autoencoder,
        reference=material.classifier if material.rendered else None, downstream=list(attributes), options=options,
        out=out, progress=progress,
    )  # fmt: skip
    cells = _aligned(run, heads, material.rendered)
    truth = _truth(heads, interventions, options.seed, progress) if material.rendered else {}
    rows = []
    for i, name in enumerate(heads):
        for j, attribute in enumerate(attributes):
            own = name == attribute or heads[name].terms[0][1].target == attribute
            if own:
                continue
            row: dict[str, Any] = {"head": name, "attribute": attribute}
            row |= {key: float(values[i, j]) for key, values in alike.items()} | cells[name, attribute]
            rows.append(row | ({"truth": truth[name, attribute]} if truth else {}))
    table = pl.DataFrame(rows, infer_schema_length=None)
    names = [*alike, *(n for n in ALIGNMENT_READINGS if n in table.columns)]
    detectors, pairs, used = _scored(table, names, options.seed) if truth else ((), len(table), 0)
    psi = np.abs(table[ALIGNMENT_READINGS[0]].to_numpy())
    known = np.isfinite(psi)
    correlation = {key: float(spearmanr(table[key].to_numpy()[known], psi[known]).statistic) for key in alike}
    between = _between(concepts, maps, attributes, run)
    return SaliencyStudy(shown, between, table, len(some), detectors, pairs, used, correlation)


def _between(
    concepts: tuple[str, str], maps: Mapping[Composition, Mapping[str, Tensor]], attributes: Mapping[str, Composition],
    run: Run,
) -> dict[str, Any]:  # fmt: skip
    one, two = ({c: attributes[c]} for c in concepts)
    found: dict[str, Any] = {name: float(value[0, 0]) for name, value in _similarities(maps, one, two).items()}
    cells = {(r["base"], r["downstream"]): r for r in run.matrix().to_dicts()}
    for base, downstream in (concepts, concepts[::-1]):
        cell = cells[base, downstream]
        found[f"ψ {base} → {downstream}"] = {k: cell[k] for k in ("psi", "ci_low", "ci_high", "n")}
    return found


def _heads(material: Material) -> tuple[dict[str, Composition], dict[str, Composition]]:
    """What is looked at, and against what."""
    if not material.rendered:
        kept, _ = material.classes(CLASSES)
        own = {c: head(material.classifier, c) for c in kept}
        return own, own
    loaded = {name: classifiers.load(f"embedded:{name}") for name in (*classifiers.planted(), "big_nose_everywhere")}
    heads = {
        name if len(owner.targets) == 1 else f"{name}.{target}": head(owner, target)
        for name, owner in loaded.items()
        for target in owner.targets
    }
    return heads, {t: head(material.classifier, t) for t in INTERVENABLE}


def _maps(
    images: Tensor, heads: Iterable[Composition], progress: Progress
) -> dict[Composition, Mapping[str, Tensor]]:  # fmt: skip
    """Maps [image, h, w] by head and method."""
    every = list(dict.fromkeys(heads))
    maps: dict[Composition, Mapping[str, Tensor]] = {}
    for number, base in enumerate(every):
        progress("saliency maps", number, len(every))
        maps[base] = {method: a.abs().mean(dim=1) for method, a in attributions(images, base).items()}
    progress("saliency maps", len(every), len(every))
    return maps


def _similarities(
    maps: Mapping[Composition, Mapping[str, Tensor]], heads: Mapping[str, Composition],
    attributes: Mapping[str, Composition],
) -> dict[str, Floats]:  # fmt: skip
    found: dict[str, Floats] = {}
    for method in min((maps[c] for c in (*heads.values(), *attributes.values())), key=len):
        mine, theirs = (torch.stack([maps[c][method] for c in side.values()]) for side in (heads, attributes))
        cosine, iou = similarity(mine, theirs)
        found |= {f"{method}, cosine": cosine.numpy(), f"{method}, IoU": iou.numpy()}
    return found


def _aligned(run: Run, heads: Iterable[str], rendered: bool) -> dict[tuple[str, str], dict[str, float]]:
    """Readings by (head, attribute)."""
    labels = dict(zip(run.record()["audited"], heads, strict=True))
    if not rendered:
        cells = {(labels[r["base"]], r["downstream"]): r["psi"] for r in run.matrix().to_dicts() if r["base"] in labels}
        return {key: {ALIGNMENT_READINGS[0]: _number(psi)} for key, psi in cells.items()}
    columns = dict(zip(ALIGNMENT_READINGS, ("outgoing", "incoming", "effect"), strict=True))
    return {
        (labels[r["audited"]], r["attribute"]): {name: _number(r[c]) for name, c in columns.items()}
        for r in run.effects().to_dicts()
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _truth(heads: Mapping[str, Composition], faces: int, seed: int, progress: Progress) -> dict[tuple[str, str], float]:
    owners = list(dict.fromkeys(c for base in heads.values() for c in base.classifiers))
    progress("interventions", 0, 1)
    with undisturbed(*owners):
        table = effect(lambda x: torch.sigmoid(respond(x, owners)), sample(faces, seed=seed + 30_000)).tolist()
    progress("interventions", 1, 1)
    return {(n, a): row[k] for a, row in zip(INTERVENABLE, table, strict=True) for k, n in enumerate(heads)}


def _scored(table: pl.DataFrame, names: Sequence[str], seed: int) -> tuple[tuple[Detector, ...], int, int]:
    known = table.filter(pl.all_horizontal(pl.col(n).is_finite() for n in names))
    used = (np.abs(known["truth"].to_numpy()) > USED).astype(np.float64)
    owner = known["head"].cast(pl.Categorical).to_physical().to_numpy()
    unique, place = np.unique(owner, return_inverse=True)
    counts = bootstrap_counts(len(unique), resamples=RESAMPLES, rng=generator(seed, "heads"))[:, place]
    found = []
    for name in names:
        score = np.abs(known[name].to_numpy())
        low, high = percentile_interval(weighted_auroc(score, used, counts)[:, None])
        found.append(Detector(name, auroc(score, used), float(low[0]), float(high[0])))
    return tuple(sorted(found, key=lambda d: -d.auroc)), len(known), int(used.sum())
