"""The subject of Figs. 7, 8 and 10: heads with a common shortcut, each rectified against it.

β is estimated from training and validation images; matrices, tables and accuracies use test images only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from cfalign import classifiers
from cfalign._analysis.statistics import generator
from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._errors import BadInput, BadModel
from cfalign._heads.composition import Composition, head
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._paper.figure_inputs import CLASSES, FigureInputs
from cfalign._rectification.options import RectificationOptions
from cfalign._rectification.rectification import rectify
from cfalign._rectification.rectified import Ending, Quality, Rectified
from cfalign._runs.progress import Progress, silent
from cfalign.classifiers.composed_classifier import ComposedClassifier
from cfalign.synthetic import render, sample, switched

SHORTCUT = "big_nose"
PARTS = ("train", "val", "test")
FINE = (Ending.CONVERGED, Ending.NOT_BIASED)
NO_QUALITY = Quality(math.nan, math.nan, 0)
INTERVENTIONS = 200
"""Number of faces for the true effects of the shortcut."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Collection:
    """The rectification of every target."""

    inputs: FigureInputs
    shortcut: str
    classes: tuple[str, ...]
    """Shortcut and targets that the classifier has, rectified or not, in the requested order."""
    found: Mapping[str, Rectified]
    """Rectifications by target."""
    skipped: Mapping[str, str]
    """Targets that were not rectified, and why."""
    split: tuple[str, ...]
    """Part of every image: train, val or test."""
    effects: Mapping[str, tuple[float, float]]
    """By target: true effect of the shortcut on its score before and after, by intervention; rendered faces only."""

    def table(self) -> pl.DataFrame:
        """One row per target: ending, β, steps, ψ → shortcut before and after with intervals and n, accuracy and AUROC
        before and after (NaN without labels), the true effect before and after (NaN where unknown).
        """
        return pl.DataFrame(
            [self._row(target, found) for target, found in self.found.items()], infer_schema_length=None
        )

    def _row(self, target: str, found: Rectified) -> Row:
        row: Row = {"target": target, "ending": found.ending.value, "beta": found.beta[0], "steps": len(found.curve)}
        for when, reading in (("before", found.before[0]), ("after", found.after[0])):
            row |= {f"psi_{when}": reading.psi, f"ci_low_{when}": reading.ci_low, f"ci_high_{when}": reading.ci_high}
            row[f"n_{when}"] = reading.n
        before, after = (quality or NO_QUALITY for quality in (found.quality_before, found.quality_after))
        for when, quality in (("before", before), ("after", after)):
            row |= {f"accuracy_{when}": quality.accuracy, f"auroc_{when}": quality.auroc}
        row["n_labelled"] = after.n
        row["effect_before"], row["effect_after"] = self.effects.get(target, (math.nan, math.nan))
        return row

    @property
    def headline(self) -> dict[str, float]:
        """Fall of |ψ| towards the shortcut on the test images, and change of accuracy."""
        table = self.table()
        psi_before, psi_after = (np.abs(table[name].to_numpy()) for name in ("psi_before", "psi_after"))
        effect_before, effect_after = (np.abs(table[name].to_numpy()) for name in ("effect_before", "effect_after"))
        price = (table["accuracy_after"] - table["accuracy_before"]).to_numpy()
        return {
            "targets": len(table),
            "targets_with_smaller_psi": int((psi_after < psi_before).sum()),
            "mean_abs_psi_before": float(psi_before.mean()),
            "mean_abs_psi_after": float(psi_after.mean()),
            "ratio": float(psi_after.mean() / psi_before.mean()),
            "mean_accuracy_change": float(price.mean()),
            "most_steps": int(table["steps"].to_numpy().max()),
            "mean_abs_effect_before": float(effect_before.mean()),
            "mean_abs_effect_after": float(effect_after.mean()),
        }

    def failures(self) -> dict[str, str]:
        """Targets that were not rectified, or whose solver did not converge, by ending or reason."""
        endings = {target: found.ending for target, found in self.found.items()}
        return dict(self.skipped) | {target: e.value for target, e in endings.items() if e not in FINE}


def collection_lines(entry: Mapping[str, Any]) -> list[str]:
    """Lines for the terminal of Figs. 7 and 8, from their entry of the summary."""
    h = entry["headline"]
    fall = (
        f"|ψ| → {entry['shortcut']} falls for {h['targets_with_smaller_psi']} of {h['targets']} targets, "
        f"mean {h['mean_abs_psi_before']:.3f} to {h['mean_abs_psi_after']:.3f}; "
        f"accuracy {h['mean_accuracy_change']:+.3f}"
    )
    return [fall, *(f"{target}: {why}" for target, why in entry["failures"].items())]


def with_common_shortcut(inputs: FigureInputs) -> FigureInputs:
    """The same inputs; for rendered faces with the shipped classifier whose heads share the shortcut."""
    if not inputs.rendered:
        return inputs
    return replace(inputs, classifier=classifiers.load("embedded:big_nose_everywhere"))


def collection(
    inputs: FigureInputs,
    *,
    shortcut: str = SHORTCUT,
    targets: Sequence[str] = CLASSES,
    options: RectificationOptions | None = None,
    progress: Progress = silent,
) -> Collection:
    """Rectify every target against the shortcut, a head of the same classifier.

    The images are split by the labels' column ``split`` if it has train, val and test, otherwise at random by the seed.
    A target that cannot be rectified is in ``skipped``, with the reason. Raises BadInput for an unknown shortcut, for
    fewer than two classes, and if no target can be rectified.
    """
    options = options or RectificationOptions(limit=400)
    kept, skipped = inputs.classes(tuple(targets) if shortcut in targets else (*targets, shortcut))
    if shortcut not in kept:
        raise BadInput(f"The shortcut {shortcut!r} cannot be used: {skipped[shortcut]}.")
    split = _split(inputs, options)
    found: dict[str, Rectified] = {}
    wanted = [target for target in kept if target != shortcut]
    for number, target in enumerate(wanted):
        progress("targets", number, len(wanted))
        try:
            found[target] = _rectified(inputs, target, shortcut, split, options)
        except (BadInput, BadModel) as error:
            skipped[target] = str(error)
    progress("targets", len(wanted), len(wanted))
    if not found:
        raise BadInput(f"No target can be rectified against {shortcut!r}: {next(iter(skipped.values()))}")
    effects = _effects(found, shortcut, options.seed) if inputs.rendered else {}
    return Collection(inputs, shortcut, kept, found, skipped, split, effects)


def _rectified(
    inputs: FigureInputs, target: str, shortcut: str, split: tuple[str, ...], options: RectificationOptions
) -> Rectified:
    return rectify(
        head(inputs.classifier, target),
        [head(inputs.classifier, shortcut)],
        images=inputs.images,
        autoencoder=inputs.autoencoder,
        labels=inputs.labels,
        split=split,
        options=options,
    )


def _split(inputs: FigureInputs, options: RectificationOptions) -> tuple[str, ...]:
    given = inputs.labels.split if inputs.labels is not None else None
    if given is not None and set(PARTS) <= set(given):
        return tuple(part or "" for part in given)
    count = len(inputs.images.ids)
    ends = np.round(count * np.cumsum([options.train, options.validation])).astype(int)
    parts = np.searchsorted(ends, generator(options.seed, "split").permutation(count), side="right")
    return tuple(PARTS[part] for part in parts)


def _effects(found: Mapping[str, Rectified], shortcut: str, seed: int) -> dict[str, tuple[float, float]]:
    """By target: true effects of the shortcut before and after."""
    models = [model for f in found.values() for model in (ComposedClassifier(f.target, name="before"), f.classifier)]
    sides = switched(sample(INTERVENTIONS, seed=seed + 30_000), shortcut)
    with torch.no_grad(), undisturbed(*models):
        off, on = (torch.sigmoid(respond(render(side), models)).double().mean(dim=0) for side in sides)
    change = (on - off).view(-1, 2).tolist()
    return {target: (before, after) for target, (before, after) in zip(found, change, strict=True)}


def alignment_of(
    given: Collection,
    bases: Mapping[tuple[Any, ...], Composition],
    part: str,
    out: str | Path,
    *,
    names: Sequence[str],
    options: AuditOptions,
    progress: Progress,
) -> pl.DataFrame:
    """ψ of compositions towards every class on one part of the images: psi, ci_low, ci_high, n, q.

    One row per base and class; the columns ``names`` hold the key of the base. As in rectification, only
    counterfactuals count that reach the requested drop.
    """
    drop = next(iter(given.found.values())).options.min_base_change
    unique = list(dict.fromkeys(bases.values()))
    in_part = np.array(given.split) == part
    run = audit(
        given.inputs.images.subset(in_part),
        unique,
        autoencoder=given.inputs.autoencoder,
        downstream=given.classes,
        options=replace(options, alignment=replace(options.alignment, min_base_change=drop)),
        out=out,
        progress=progress,
    )
    labels = dict(zip(unique, run.record()["audited"], strict=True))
    cells = {(cell.base, cell.downstream): cell for cell in run.cells()}
    rows = []
    for key, composition in bases.items():
        for downstream in given.classes:
            cell = cells[labels[composition], downstream]
            row: Row = {**dict(zip(names, key, strict=True)), "downstream": downstream}
            rows.append(row | {name: getattr(cell, name) for name in ("psi", "ci_low", "ci_high", "n", "q")})
    return pl.DataFrame(rows, infer_schema_length=None)
