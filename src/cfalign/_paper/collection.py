"""Figs. 7, 8 and 10: a collection of heads with one shortcut in common, each composed with it so that it rests.

β comes from training and validation images; matrices, tables and accuracies are of test images that no β has seen.
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
from numpy.typing import NDArray
from scipy.stats import spearmanr

from cfalign import classifiers
from cfalign._analysis.statistics import generator
from cfalign._audit.audit import audit
from cfalign._audit.options import AuditOptions
from cfalign._errors import BadInput
from cfalign._heads.composition import Composition, head
from cfalign._heads.scoring import respond
from cfalign._models.guard import undisturbed
from cfalign._paper.material import CLASSES, Material
from cfalign._paper.published import ALIGNMENT
from cfalign._rectification import Ending, Quality, RectificationOptions, Rectified, rectify
from cfalign._results import Floats
from cfalign._runs.progress import Progress, silent
from cfalign.classifiers.composed_classifier import ComposedClassifier
from cfalign.synthetic import render, sample, switched

SHORTCUT = "big_nose"
PARTS = ("train", "val", "test")
_CELL = ("psi", "ci_low", "ci_high", "n", "q")


@dataclass(frozen=True)
class Collection:
    """What became of every target."""

    material: Material
    shortcut: str
    classes: tuple[str, ...]
    """Shortcut and targets that the classifier has, in the order asked for; rectified or not."""
    found: Mapping[str, Rectified]
    """By target."""
    skipped: Mapping[str, str]
    """Targets that were not rectified, and why."""
    split: tuple[str, ...]
    """Part of every image."""
    effects: Mapping[str, tuple[float, float]]
    """By target: mean change of its score when the shortcut alone is switched on, by intervention, before and after;
    for rendered faces only.
    """

    def table(self) -> pl.DataFrame:
        """One row per target: ending, β, steps, ψ → shortcut before and after with intervals and n, accuracy and AUROC
        before and after (NaN without labels), the true effect before and after (NaN where unknown).
        """
        return pl.DataFrame([self._row(t, f) for t, f in self.found.items()], infer_schema_length=None)

    def _row(self, target: str, found: Rectified) -> dict[str, Any]:
        row: dict[str, Any] = {"target": target, "ending": found.ending.value, "beta": found.beta[0]}
        row["steps"] = len(found.curve)
        for when, reading in (("before", found.before[0]), ("after", found.after[0])):
            row |= {f"psi_{when}": reading.psi, f"ci_low_{when}": reading.ci_low, f"ci_high_{when}": reading.ci_high}
            row[f"n_{when}"] = reading.n
        nothing = Quality(math.nan, math.nan, 0)
        for when, quality in (("before", found.quality_before), ("after", found.quality_after)):
            row |= {f"accuracy_{when}": (quality or nothing).accuracy, f"auroc_{when}": (quality or nothing).auroc}
        row["n_labelled"] = (found.quality_after or nothing).n
        return row | dict(
            zip(("effect_before", "effect_after"), self.effects.get(target, (math.nan,) * 2), strict=True)
        )

    @property
    def headline(self) -> dict[str, float]:
        """How far |ψ| to the shortcut falls on the test images, and at what price."""
        table = self.table()
        before, after = (np.abs(table[f"psi_{when}"].to_numpy()) for when in ("before", "after"))
        price = (table["accuracy_after"] - table["accuracy_before"]).to_numpy()
        effects = [np.abs(table[f"effect_{when}"].to_numpy()).mean() for when in ("before", "after")]
        return {
            "targets": len(table),
            "targets_with_smaller_psi": int((after < before).sum()),
            "mean_abs_psi_before": float(before.mean()),
            "mean_abs_psi_after": float(after.mean()),
            "ratio": float(after.mean() / before.mean()),
            "mean_accuracy_change": float(price.mean()),
            "most_steps": int(table["steps"].to_numpy().max()),
            "mean_abs_effect_before": float(effects[0]),
            "mean_abs_effect_after": float(effects[1]),
        }

    def failures(self) -> dict[str, str]:
        """Targets that were not rectified, or whose solver did not converge, by ending or reason."""
        fine = (Ending.CONVERGED, Ending.NOT_BIASED)
        return dict(self.skipped) | {t: f.ending.value for t, f in self.found.items() if f.ending not in fine}


def with_common_shortcut(material: Material) -> Material:
    """The same material; for rendered faces with the shipped classifier whose heads all have the shortcut."""
    if not material.rendered:
        return material
    return replace(material, classifier=classifiers.load("embedded:big_nose_everywhere"))


def collection(
    material: Material,
    *,
    shortcut: str = SHORTCUT,
    targets: Sequence[str] = CLASSES,
    options: RectificationOptions | None = None,
    progress: Progress = silent,
) -> Collection:
    """Rectify every target against the shortcut, a head of the same classifier.

    The images are split by the labels' column ``split`` where that has train, val and test, otherwise at random by the
    seed. BadInput: no such shortcut, fewer than two classes, none of the targets can be rectified; a single target that
    cannot be is ``skipped`` with the reason.
    """
    options = options or RectificationOptions(limit=400)
    kept, skipped = material.classes(tuple(targets) if shortcut in targets else (*targets, shortcut))
    if shortcut not in kept:
        raise BadInput(f"The shortcut {shortcut!r} cannot be used: {skipped[shortcut]}.")
    split = _split(material, options)
    found: dict[str, Rectified] = {}
    wanted = [t for t in kept if t != shortcut]
    for number, target in enumerate(wanted):
        progress("targets", number, len(wanted))
        try:
            found[target] = rectify(
                head(material.classifier, target), [head(material.classifier, shortcut)], images=material.images,
                autoencoder=material.autoencoder, labels=material.labels, split=split, options=options,
            )  # fmt: skip
        except BadInput as error:
            skipped[target] = str(error)
    progress("targets", len(wanted), len(wanted))
    if not found:
        raise BadInput(f"No target can be rectified against {shortcut!r}: {next(iter(skipped.values()))}")
    effects = _effects(found, shortcut, options.seed) if material.rendered else {}
    return Collection(material, shortcut, kept, found, skipped, split, effects)


def _split(material: Material, options: RectificationOptions) -> tuple[str, ...]:
    given = material.labels.split if material.labels is not None else None
    if given is not None and set(PARTS) <= set(given):
        return tuple(part or "" for part in given)
    count = len(material.images.ids)
    ends = np.round(count * np.cumsum([options.train, options.validation])).astype(int)
    parts = np.searchsorted(ends, generator(options.seed, "split").permutation(count), side="right")
    return tuple(PARTS[p] for p in parts)


def _effects(found: Mapping[str, Rectified], shortcut: str, seed: int) -> dict[str, tuple[float, float]]:
    models = [m for f in found.values() for m in (ComposedClassifier(f.target, name="before"), f.classifier)]
    sides = switched(sample(200, seed=seed + 30_000), shortcut)
    with torch.no_grad(), undisturbed(*models):
        off, on = (torch.sigmoid(respond(render(side), models)).double().mean(dim=0) for side in sides)
    change = (on - off).view(-1, 2).tolist()
    return {t: (before, after) for t, (before, after) in zip(found, change, strict=True)}


def matrices(
    given: Collection, out: str | Path, *, options: AuditOptions | None = None, progress: Progress = silent
) -> pl.DataFrame:
    """Alignment on the test images before and after, (when, base, downstream) with psi, interval, n, q; to ``out``.

    A target that was not rectified has no row after. As in rectification, counterfactuals count whose base change is
    the drop asked for.
    """
    heads = {("before", c): head(given.material.classifier, c) for c in given.classes}
    rectified = {("after", t): found.composition for t, found in given.found.items()}
    bases = {**heads, ("after", given.shortcut): heads["before", given.shortcut], **rectified}
    return _audited(given, bases, "test", out, options or AuditOptions(limit=400, shown=0), progress)


def iterations(
    given: Collection, out: str | Path, *, options: AuditOptions | None = None, progress: Progress = silent
) -> pl.DataFrame:
    """ψ of f' towards every class at every step of the solver, on training and on validation images.

    Rows (part, target, step, beta, downstream) with psi, interval, n, q; the runs go below ``out``.
    """
    options = options or AuditOptions(limit=60, shown=0)
    parts = []
    for part in ("train", "val"):
        bases = {
            (target, step.step, step.beta[0]): composition
            for target, found in given.found.items()
            for step, composition in zip(found.curve, found.trail, strict=True)
        }
        made = _audited(given, bases, part, Path(out) / part, options, progress, ("target", "step", "beta"))
        parts.append(made.select(pl.lit(part).alias("part"), pl.all()))
    return pl.concat(parts)


def _audited(
    given: Collection,
    bases: Mapping[tuple[Any, ...], Composition],
    part: str,
    out: str | Path,
    options: AuditOptions,
    progress: Progress,
    names: tuple[str, ...] = ("when", "base"),
) -> pl.DataFrame:
    """One row per base and class, under the bases' own keys."""
    drop = next(iter(given.found.values())).options.min_base_change
    options = replace(options, alignment=replace(options.alignment, min_base_change=drop))
    unique = list(dict.fromkeys(bases.values()))
    mask: NDArray[np.bool_] = np.array(given.split) == part
    run = audit(
        given.material.images.subset(mask), unique, autoencoder=given.material.autoencoder, downstream=given.classes,
        options=options, out=out, progress=progress,
    )  # fmt: skip
    labels = dict(zip(unique, run.record()["audited"], strict=True))
    cells = {(r["base"], r["downstream"]): r for r in run.matrix().to_dicts()}
    rows = []
    for key, composition in bases.items():
        for downstream in given.classes:
            cell = cells[labels[composition], downstream]
            numbers = {k: math.nan if cell[k] is None else cell[k] for k in _CELL}
            rows.append({**dict(zip(names, key, strict=True)), "downstream": downstream, **numbers})
    return pl.DataFrame(rows, infer_schema_length=None)


def grid(table: pl.DataFrame, when: str, classes: Sequence[str]) -> Floats:
    """ψ [base, downstream] of ``matrices``."""
    cells = {(r["base"], r["downstream"]): r["psi"] for r in table.filter(pl.col("when") == when).to_dicts()}
    return np.array([[cells.get((b, d), math.nan) for d in classes] for b in classes], dtype=np.float64)


def beside_the_paper(values: Floats, classes: Sequence[str]) -> dict[str, Any]:
    """Spearman's rank correlation of the off-diagonal cells with the paper's Fig. 8 A, and the number of cells."""
    pairs = [
        (values[i, j], ALIGNMENT[a][b])
        for i, a in enumerate(classes)
        for j, b in enumerate(classes)
        if a != b and b in ALIGNMENT.get(a, {}) and math.isfinite(values[i, j])
    ]
    if len(pairs) < 3:
        return {"rank_correlation": math.nan, "cells": len(pairs)}
    return {"rank_correlation": float(spearmanr(*zip(*pairs, strict=True)).statistic), "cells": len(pairs)}
