"""Do estimated effects match interventions? On the shipped classifiers with planted shortcuts, on confounded images.

The truth comes from do-interventions on the renderer: one factor switched, everything else fixed. The estimates see
only images on which target and shortcut go together, where plain correlation is misled. An effect depends on the faces
it is averaged over: where a shortcut is on, a classifier is saturated and other attributes do nothing. So there are two
truths: over faces whose attributes are independent, and over faces distributed as the audited images are ("here"),
which is what an audit of these images can know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr, rankdata

from cfalign import autoencoders, classifiers
from cfalign.audit import audit
from cfalign.datasets import TensorImages
from cfalign.engines.local import Progress, silent
from cfalign.responses import respond
from cfalign.results import Floats
from cfalign.sweep import AuditOptions
from cfalign.synthetic import DERIVED, INTERVENABLE, Faces, effect, render, sample
from cfalign.types import Classifier

CORRELATION = 0.9
"""Of target and shortcut on the images."""
USED = 0.1
"""An attribute is truly used when |effect by intervention| is above this."""


@dataclass(frozen=True)
class Pair:
    """One audited head and one attribute that it is not meant to see."""

    classifier: str
    attribute: str
    planted: bool
    truth: float
    """Effect by intervention over faces with independent attributes."""
    truth_here: float
    """The same over faces distributed as the audited images."""
    effect: float
    ci_low: float
    ci_high: float
    q: float
    incoming: float
    outgoing: float
    correlation: float
    """Correlation of the audited head's prediction with the reference head's on the confounded images."""


@dataclass(frozen=True)
class Detection:
    """The benchmark's result."""

    pairs: tuple[Pair, ...]
    seed: int

    @property
    def headline(self) -> dict[str, float]:
        """Names that programs rely on."""
        column: dict[str, Floats] = {k: np.array([getattr(p, k) for p in self.pairs], dtype=float) for k in _NUMBERS}
        used, used_here = np.abs(column["truth"]) > USED, np.abs(column["truth_here"]) > USED
        strong = np.array([p.planted and p.classifier.endswith("_from_" + p.attribute) for p in self.pairs])
        effect = column["effect"]
        found = (column["q"] < 0.05) & ((column["ci_low"] > 0) | (column["ci_high"] < 0)) & (np.abs(effect) >= USED)

        def coverage(truth: Floats) -> float:
            return float(((column["ci_low"] <= truth) & (truth <= column["ci_high"])).mean())

        def rmse(truth: Floats) -> float:
            return float(np.sqrt(np.mean((effect - truth) ** 2)))

        return {
            "pairs": len(self.pairs),
            "used": int(used.sum()),
            "auroc_used": auroc(np.abs(effect), used),
            "average_precision_used": average_precision(np.abs(effect), used),
            "auroc_incoming": auroc(np.abs(column["incoming"]), used),
            "auroc_outgoing": auroc(np.abs(column["outgoing"]), used),
            "auroc_prediction_correlation": auroc(np.abs(column["correlation"]), used),
            "pearson_effect": float(pearsonr(effect, column["truth"]).statistic),
            "rmse_effect": rmse(column["truth"]),
            "interval_coverage": coverage(column["truth"]),
            "false_alarm_rate": float(np.mean(found[np.logical_not(used)])),
            "power_dose_0_9": float(found[strong].mean()),
            "used_here": int(used_here.sum()),
            "auroc_used_here": auroc(np.abs(effect), used_here),
            "auroc_prediction_correlation_here": auroc(np.abs(column["correlation"]), used_here),
            "pearson_effect_here": float(pearsonr(effect, column["truth_here"]).statistic),
            "rmse_effect_here": rmse(column["truth_here"]),
            "interval_coverage_here": coverage(column["truth_here"]),
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"headline": self.headline, "seed": self.seed, "pairs": [vars(p) for p in self.pairs]}

    def lines(self) -> list[str]:
        """For the terminal: the planted pairs, then the headline."""
        head = f"{'classifier':<36}{'shortcut':<18}{'truth':>7}{'effect':>8}  95 % interval"
        rows = [
            f"{p.classifier:<36}{p.attribute:<18}{p.truth:>+7.2f}{p.effect:>+8.2f}  [{p.ci_low:+.2f}, {p.ci_high:+.2f}]"
            for p in self.pairs
            if p.classifier.removesuffix("_0").endswith(f"_from_{p.attribute}")
        ]
        return [head, *rows, *(f"{name:<36}{value:.3f}" for name, value in self.headline.items())]


_NUMBERS = ("truth", "truth_here", "effect", "ci_low", "ci_high", "q", "incoming", "outgoing", "correlation")


def detection(
    *, seed: int = 0, limit: int = 80, faces: int = 1200, interventions: int = 50, progress: Progress = silent
) -> Detection:
    """Audit every shipped planted classifier and its unplanted twin on faces confounded as the planted one's training.

    ``limit`` counterfactuals per head on ``faces`` faces; truth from ``interventions`` faces per factor.
    """
    names = classifiers.planted()
    loaded = {name: classifiers.load(f"embedded:{name}") for name in names}
    progress("interventions", 0, 1)
    truth = _intervened(loaded, sample(interventions, seed=seed + 30_000))
    progress("interventions", 1, 1)
    pairs: list[Pair] = []
    by_pair = sorted({name.removesuffix("_0") for name in names})
    for done, planted in enumerate(by_pair):
        progress("pairs", done, len(by_pair))
        twins = {n: loaded[n] for n in names if n.removesuffix("_0") == planted}
        pairs += _measured(planted, twins, truth, seed + 20_000 + done, limit, faces, 2 * interventions)
    progress("pairs", len(by_pair), len(by_pair))
    return Detection(tuple(pairs), seed)


def _measured(
    planted: str,
    twins: Mapping[str, Classifier],
    truth: Mapping[str, Sequence[float]],
    seed: int,
    limit: int,
    faces: int,
    interventions: int,
) -> list[Pair]:
    reference, autoencoder = classifiers.load("embedded"), autoencoders.load("embedded")
    target, _, shortcut = planted.partition("_from_")
    together = {(target, shortcut): CORRELATION}
    images = TensorImages(render(sample(faces, seed=seed, correlations=together)))
    here = _intervened(twins, sample(interventions, seed=seed + 60_000, correlations=together))
    audited = list(twins.values())
    with TemporaryDirectory() as folder:
        run = audit(
            images, audited, reference=reference, autoencoder=autoencoder,
            options=AuditOptions(limit=limit, seed=seed, shown=0), out=Path(folder) / "run",
        )  # fmt: skip
        table, scores, labels = run.effects(), run.scores(), run.record()["audited"]
    pairs = []
    for name, label in zip(twins, labels, strict=True):
        rows = {row["attribute"]: row for row in table.filter(table["audited"] == label).iter_rows(named=True)}
        mine = scores[f"reconstruction.{label}"].to_numpy()
        for attribute, value, value_here in zip(INTERVENABLE, truth[name], here[name], strict=True):
            if attribute == target or attribute in DERIVED or attribute not in rows:
                continue
            row = rows[attribute]
            correlation = float(np.corrcoef(mine, scores[f"reconstruction.{attribute}"].to_numpy())[0, 1])
            numbers = {k: row[k] for k in ("effect", "ci_low", "ci_high", "q", "incoming", "outgoing")}
            pairs.append(
                Pair(
                    name, attribute, not name.endswith("_0"), value, value_here, **numbers, correlation=correlation
                )
            )  # fmt: skip
    return pairs


def _intervened(classifiers: Mapping[str, Classifier], faces: Faces) -> dict[str, list[float]]:
    """Mean change of each classifier's probability when one attribute after another is switched on, in the order of
    INTERVENABLE. The faces are rendered once for all.
    """
    table = effect(lambda x: torch.sigmoid(respond(x, list(classifiers.values()))), faces)
    return {name: table[:, k].tolist() for k, name in enumerate(classifiers)}


def auroc(score: Floats, positive: Floats | Any) -> float:
    """Area under the ROC curve by ranks; NaN without both kinds."""
    positive = np.asarray(positive, dtype=bool)
    p = int(np.count_nonzero(positive))
    n = len(positive) - p
    if not p or not n or np.isnan(score).any():
        return float("nan")
    return float((rankdata(score)[positive].sum() - p * (p + 1) / 2) / (p * n))


def average_precision(score: Floats, positive: Floats | Any) -> float:
    """Mean precision at every positive, ties in the given order; NaN without positives."""
    positive = np.asarray(positive, dtype=bool)[np.argsort(-score, kind="stable")]
    if not positive.any():
        return float("nan")
    precision = np.cumsum(positive) / np.arange(1, len(positive) + 1)
    return float(precision[positive].mean())
