"""Fig. 4 in numbers: do saliency maps show that one head uses another's feature, and does ψ?

Maps of two concepts at one place are similar, whether or not the head of one uses the other. For rendered faces
interventions tell what is used, so both kinds of detectors can be scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from cfalign._audit.options import AuditOptions
from cfalign._explanation.explained import ExplainedBase
from cfalign._explanation.explanation import Explanation
from cfalign._explanation.options import ExplainOptions
from cfalign._figures import style
from cfalign._figures.plots.pixels import heat_map, new_figure, picture
from cfalign._paper.figure_inputs import FigureInputs
from cfalign._paper.figure_job import Entry, FigureJob, PaperFigure
from cfalign._paper.saliency_and_alignment import (
    ALIGNMENT_READINGS,
    DetectorScore,
    between_concepts,
    read_pairs,
    scored,
)
from cfalign._paper.single_image import explained_image
from cfalign._results import StartsAt
from cfalign._runs.progress import Progress, silent

CONCEPTS = ("pointy_nose", "big_nose")


@dataclass(frozen=True)
class SaliencyStudy:
    """Similarity of saliency maps and alignment, over all pairs of heads."""

    shown: Explanation
    """One image with the maps of both concepts."""
    concepts: Mapping[str, Any]
    """The two concepts: similarity of their maps by method, and ψ in both directions with interval and n."""
    table: pl.DataFrame
    """One row per pair (head, attribute): by method cosine and IoU of the top 10 %, and ψ. For rendered faces also
    incoming ψ, effect, and truth: the mean change of the head's score when only the attribute is switched on.
    """
    images: int
    """Number of images with saliency maps."""
    detectors: tuple[DetectorScore, ...]
    """Detectors of |truth| > 0.1, by AUROC over the pairs where all are defined; empty without truth."""
    pairs: int
    used: int
    correlation: Mapping[str, float]
    """By similarity: Spearman's rank correlation with |ψ|, over pairs where ψ is defined."""


def saliency_study(
    inputs: FigureInputs,
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
    attributes of the embedded classifier that interventions can set. A derived attribute, such as attractive, would be
    credited with the effects of its causes. Other images: the classes of the paper against each other, without a truth.
    Raises BadInput for fewer than two classes.
    """
    options = options or AuditOptions(limit=60, shown=0)
    shown = explained_image(inputs, *concepts, options=ExplainOptions(increase=True))
    read = read_pairs(inputs, out, images=images, interventions=interventions, options=options, progress=progress)
    table = read.table
    readings = [*read.similarities, *(name for name in ALIGNMENT_READINGS if name in table.columns)]
    detectors, pairs, used = scored(table, readings, options.seed) if "truth" in table.columns else ((), len(table), 0)
    return SaliencyStudy(
        shown=shown,
        concepts=between_concepts(concepts, read),
        table=table,
        images=read.images,
        detectors=detectors,
        pairs=pairs,
        used=used,
        correlation=_with_alignment(table, read.similarities),
    )


def _with_alignment(table: pl.DataFrame, similarities: tuple[str, ...]) -> dict[str, float]:
    """Rank correlation of every similarity with |ψ|."""
    psi = np.abs(table[ALIGNMENT_READINGS[0]].to_numpy())
    known = np.isfinite(psi)
    return {name: float(spearmanr(table[name].to_numpy()[known], psi[known]).statistic) for name in similarities}


def saliency_figure(result: SaliencyStudy) -> Figure:
    """Above: the maps of two concepts on one image. Below: scores of the detectors over all pairs."""
    rows = max(len(result.detectors), 6)
    figure = new_figure(9.6, 4.75 + 0.22 * rows + 0.9)
    width, height = figure.get_size_inches()
    for number, base in enumerate(result.shown.bases):
        _maps(figure, base, result.shown.options.search.start, top=height - 0.9 - 1.9 * number, titles=number == 0)
    figure.text(0.35 / width, 1 - 0.12 / height, _concepts(result), fontsize=8.5, color=style.INK, va="top")
    axes = figure.add_axes((2.2 / width, 0.5 / height, (width - 2.6) / width, 0.22 * rows / height))
    if result.detectors:
        _detectors(axes, result)
    else:
        _similar(axes, result)
    axes.tick_params(labelsize=8, colors=style.INK)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _maps(figure: Figure, base: ExplainedBase, start: StartsAt, *, top: float, titles: bool) -> None:
    """The pictures of one concept side by side; ``start``: what x0 is; ``top``: their upper end in inches."""
    width, height = figure.get_size_inches()
    pictures = [
        (start.picture, base.frames[0], False),
        *((method, values, True) for method, values in base.saliency.items()),
        ("counterfactual change", base.difference, True),
        ("counterfactual", base.frames[-1], False),
    ]
    for column, (title, values, is_map) in enumerate(pictures):
        place = ((0.35 + 1.53 * column) / width, (top - 1.4) / height, 1.4 / width, 1.4 / height)
        axes = figure.add_axes(place)
        pixels = np.asarray(values, dtype=np.float32)
        title = title if titles else ""
        if is_map:
            heat_map(axes, pixels, title)
        else:
            picture(axes, pixels.transpose(1, 2, 0), title)
        if column == 0:
            ends = f"{style.number(base.base_scores[0])} → {style.number(base.base_scores[-1])}"
            axes.set_xlabel(f"{base.base} {ends}", fontsize=8, color=style.INK, labelpad=3)


def _concepts(result: SaliencyStudy) -> str:
    """Similarity and alignment of the two concepts in numbers."""
    found = result.concepts
    methods = [name.removesuffix(", cosine") for name in found if name.endswith(", cosine")]
    alike = []
    for method in methods:
        cosine, iou = (style.number(found[f"{method}, {kind}"]) for kind in ("cosine", "IoU"))
        alike.append(f"{method} {cosine} / {iou}")
    aligned = []
    for name, value in found.items():
        if isinstance(value, dict):
            interval = style.interval(value["ci_low"], value["ci_high"])
            aligned.append(f"{name} = {style.signed(value['psi'])} {interval}, n {value['n']}")
    return f"Maps alike (cosine / IoU): {'; '.join(alike)}.\nAlignment: {'; '.join(aligned)}."


def _detectors(axes: Axes, result: SaliencyStudy) -> None:
    bars = result.detectors
    places = np.arange(len(bars))[::-1]
    values = np.array([bar.auroc for bar in bars])
    error = np.array([[bar.auroc - bar.ci_low, bar.ci_high - bar.auroc] for bar in bars]).T
    colours = [style.NEGATIVE if bar.name in ALIGNMENT_READINGS else style.MUTED for bar in bars]
    axes.axvline(0.5, color=style.RULE, linewidth=1)
    axes.hlines(places, 0.5, values, color=colours, linewidth=3)
    axes.errorbar(values, places, xerr=error, fmt="o", color=style.INK, markersize=4, capsize=2, linewidth=1)
    axes.set_yticks(places, [bar.name for bar in bars], fontsize=8)
    axes.set_ylim(-0.7, len(bars) - 0.3)
    axes.set_xlim(min(0.4, float(values.min()) - 0.05), 1.02)
    title = f"Does a head really use an attribute? AUROC over {result.pairs} pairs, {result.used} truly used"
    axes.set_title(title, fontsize=9, color=style.INK, loc="left")


def _similar(axes: Axes, result: SaliencyStudy) -> None:
    name = next(iter(result.correlation))
    psi = np.abs(result.table[ALIGNMENT_READINGS[0]].to_numpy())
    axes.scatter(result.table[name].to_numpy(), psi, s=9, color=style.NEGATIVE, alpha=0.7, linewidths=0)
    axes.set_xlabel(f"similarity of the maps ({name})", fontsize=8, color=style.INK)
    axes.set_ylabel("|ψ|", fontsize=8, color=style.INK)
    title = f"{len(psi)} pairs; rank correlation {style.number(result.correlation[name])}"
    axes.set_title(title, fontsize=9, color=style.INK, loc="left")


def make(job: FigureJob) -> Entry:
    """The maps of two concepts, and how well each detector ranks the pairs that are truly used."""
    result = saliency_study(
        job.inputs,
        job.run("fig4"),
        images=4 if job.quick else 16,
        interventions=20 if job.quick else 50,
        options=job.audit_options(60, 12),
        progress=job.progress("fig4"),
    )
    job.save("fig4", saliency_figure(result))
    job.save_table("fig4", result.table)
    return {
        "concepts": dict(result.concepts),
        "images": result.images,
        "pairs": result.pairs,
        "used": result.used,
        "auroc": [asdict(detector) for detector in result.detectors],
        "rank_correlation_with_psi": dict(result.correlation),
    }


def lines(entry: Entry) -> list[str]:
    """AUROC of every detector."""
    if not entry["auroc"]:
        return ["done (no truth for these images)"]
    found = [f"{d['name']} {d['auroc']:.3f} [{d['ci_low']:.3f}, {d['ci_high']:.3f}]" for d in entry["auroc"]]
    return [f"AUROC of truly used pairs: {'; '.join(found)}"]


FIGURE_4 = PaperFigure("fig4", "what saliency maps tell", make, lines)
