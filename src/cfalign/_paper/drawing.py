"""The figures of the paper, drawn from the numbers of the experiments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cfalign._figures import style
from cfalign._figures.plots.pixels import SIGNED, heat_map, new_figure, picture
from cfalign._paper import ALIGNMENT_READINGS, Collection, Comparison, Induced, SaliencyStudy
from cfalign._results import Floats


def comparison_figure(result: Comparison) -> Figure:
    """Fig. 2: three matrices side by side, bases in rows, one colour scale."""
    n = len(result.classes)
    figure = new_figure(3 * (0.36 * n + 0.4) + 2.6, 0.36 * n + 2.3)
    width, height = figure.get_size_inches()
    titles = ("CF alignment: mean ψ", "correlation of predictions", "correlation of labels")
    columns = ("psi", "prediction_correlation", "label_correlation")
    side = 0.36 * n
    for k, (title, column) in enumerate(zip(titles, columns, strict=True)):
        box = ((1.75 + k * (side + 0.4)) / width, 0.35 / height, side / width, side / height)
        axes = figure.add_axes(box)
        matrix(axes, result.grid(column), result.classes, result.classes, values=True, rows=k == 0)
        axes.set_title(title, fontsize=9, weight="bold", color=style.INK, pad=4, y=-0.075)
    return figure


def matrix_figure(values: Floats, bases: Sequence[str], downstream: Sequence[str]) -> Figure:
    """Fig. 9: the complete matrix, in the order given."""
    figure = new_figure(0.2 * len(downstream) + 2.6, 0.2 * len(bases) + 2.2)
    width, height = figure.get_size_inches()
    box = (1.75 / width, 0.45 / height, 0.2 * len(downstream) / width, 0.2 * len(bases) / height)
    axes = figure.add_axes(box)
    matrix(axes, values, bases, downstream, values=False)
    axes.set_title("mean relative change ψ: rows are bases, columns downstream", fontsize=9, color=style.INK, y=-0.055)
    bar = figure.add_axes((box[0] + box[2] + 0.15 / width, box[1], 0.14 / width, box[3] * 0.4))
    colours = figure.colorbar(axes.images[0], cax=bar, ticks=[-1, -0.5, 0, 0.5, 1])
    colours.ax.tick_params(labelsize=7, colors=style.INK)
    return figure


def matrix(
    axes: Axes,
    grid: Floats,
    bases: Sequence[str],
    downstream: Sequence[str],
    *,
    values: bool,
    rows: bool = True,
) -> None:
    """Colours from −1 to 1; undefined cells are grey with a dash; ``values`` prints two digits into each."""
    axes.set_facecolor(style.FAINT)
    axes.imshow(np.ma.masked_invalid(grid), cmap=SIGNED, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    size = 7.0 if values else 6.5
    axes.set_xticks(range(len(downstream)), downstream, rotation=60, ha="left", rotation_mode="anchor", fontsize=size)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(bases)), bases if rows else [""] * len(bases), fontsize=size)
    axes.tick_params(length=0, colors=style.INK, pad=2)
    for border in axes.spines.values():
        border.set_color(style.RULE)
    if not values:
        return
    for i, j in np.ndindex(grid.shape):
        finite = bool(np.isfinite(grid[i, j]))
        ink = style.ink_on(style.diverging(float(grid[i, j]))) if finite else style.MUTED
        text = style.number(float(grid[i, j])).replace("0.", ".") if finite else style.DASH
        axes.text(j, i, text, ha="center", va="center", fontsize=5.5, color=ink)


def dose_figure(result: Induced) -> Figure:
    """Fig. 5 as numbers: ψ towards the shortcut against its coefficient, with 95 % intervals."""
    figure = new_figure(5.2, 3.4)
    axes = figure.add_axes((0.13, 0.16, 0.83, 0.72))
    table = result.table
    x, psi = table["coefficient"].to_numpy(), table["psi"].to_numpy()
    low, high = psi - table["ci_low"].to_numpy(), table["ci_high"].to_numpy() - psi
    axes.axhline(0, color=style.RULE, linewidth=0.8)
    total = table["sum_psi"].to_numpy()
    error = np.stack([total - table["sum_ci_low"].to_numpy(), table["sum_ci_high"].to_numpy() - total])
    axes.errorbar(
        x, total, yerr=error, color=style.MUTED, marker="s", markersize=3.5, capsize=2, linewidth=1, linestyle="--",
        label="the sum, whose range grows with c",
    )  # fmt: skip
    axes.errorbar(
        x, psi, yerr=np.stack([low, high]), color=style.NEGATIVE, marker="o", markersize=4, capsize=2.5,
        label="divided by 1 + c: a drop of the same share",
    )  # fmt: skip
    axes.legend(fontsize=7, frameon=False, loc="lower right")
    axes.set_xlabel(f"coefficient c of {result.shortcut}", fontsize=8, color=style.INK)
    axes.set_ylabel(f"ψ → {result.shortcut}", fontsize=8, color=style.INK)
    counts = table["n"].to_list()
    axes.set_title(
        f"counterfactuals of {result.target} + c·{result.shortcut} (n {min(counts)} to {max(counts)}, 95 % intervals)",
        fontsize=8.5, color=style.INK,
    )  # fmt: skip
    axes.tick_params(labelsize=7.5, colors=style.INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


LEAST = 0.1
"""Every panel of Fig. 7 reaches at least ± this, so that noise does not look like a curve."""


def collection_curves(result: Collection) -> Figure:
    """Fig. 7: mean ψ towards the shortcut by step of the solver, a panel per target; the line marks the step kept."""
    columns = min(4, len(result.found))
    rows = math.ceil(len(result.found) / columns)
    figure = new_figure(2.3 * columns + 0.6, 1.75 * rows + 0.9)
    width, height = figure.get_size_inches()
    panels = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0.62 / width, 0.45 / height, 1 - 0.1 / width, 1 - 0.75 / height, wspace=0.28, hspace=0.62)
    for axes, (target, found) in zip(panels.flat, result.found.items(), strict=False):
        steps = [step.step for step in found.curve]
        axes.axhline(0, color=style.RULE, linewidth=0.8)
        axes.axvline(found.best_step, color=style.POSITIVE, linewidth=1.1)
        axes.plot(
            steps, [s.psi_train[0] for s in found.curve], color=style.INK, marker="o", markersize=3.5, label="training"
        )
        axes.plot(
            *_known(steps, [s.psi_validation[0] for s in found.curve]), color=style.NEGATIVE, marker="s",
            markersize=3.5, linestyle="--", label="validation",
        )  # fmt: skip
        ends = [found.before[0], found.after[0]]
        axes.errorbar(
            [0, found.best_step] if found.best_step else [0], [e.psi for e in ends][: 1 + bool(found.best_step)],
            yerr=np.array([[e.psi - e.ci_low, e.ci_high - e.psi] for e in ends][: 1 + bool(found.best_step)]).T,
            color=style.POSITIVE, marker="D", markersize=4, markerfacecolor=style.PAPER, linestyle="none", capsize=2,
            label="held-out test, 95 % interval", zorder=3,
        )  # fmt: skip
        axes.set_title(f"{target} (β {style.signed(found.beta[0])})", fontsize=7.5, color=style.INK, pad=3)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, -LEAST), max(high, LEAST))
        axes.tick_params(labelsize=6.5, colors=style.INK)
        axes.locator_params(axis="x", integer=True, nbins=5)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels.flat[len(result.found) :]:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_ylabel(f"ψ → {result.shortcut}", fontsize=7, color=style.INK)
    figure.legend(
        *panels.flat[0].get_legend_handles_labels(), loc="upper right", ncols=3, fontsize=7, frameon=False
    )  # fmt: skip
    figure.text(
        0.1 / width, 1 - 0.2 / height, "Mean ψ by step; the red line is the step kept; scales differ", fontsize=9,
        weight="bold", color=style.INK, va="top",
    )  # fmt: skip
    return figure


def _known(steps: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    pairs = [(s, v) for s, v in zip(steps, values, strict=True) if np.isfinite(v)]
    return [s for s, _ in pairs], [v for _, v in pairs]


def before_after_figure(before: Floats, after: Floats, classes: Sequence[str], *, shortcut: str) -> Figure:
    """Fig. 8: the matrices of the test images before and after, the shortcut's column framed."""
    n = len(classes)
    side = 0.36 * n
    figure = new_figure(2 * (side + 0.4) + 1.9, side + 2.1)
    width, height = figure.get_size_inches()
    for k, (title, values) in enumerate((("A) before", before), ("B) after rectification", after))):
        axes = figure.add_axes(((1.75 + k * (side + 0.4)) / width, 0.4 / height, side / width, side / height))
        matrix(axes, values, classes, classes, values=True, rows=k == 0)
        axes.set_title(title, fontsize=9, weight="bold", color=style.INK, pad=4, y=-0.075)
        at = list(classes).index(shortcut)
        axes.add_patch(Rectangle((at - 0.5, -0.5), 1, n, fill=False, edgecolor=style.INK, linewidth=1.6))
    return figure


def iterations_figure(tables: Sequence[IterationTable], classes: Sequence[str]) -> Figure:
    """Fig. 10: a block per target, a row per β, ψ towards every class; training images left, validation right."""
    cell, gap = 0.36, 0.42
    rows = sum(len(table.betas) for table in tables)
    side = cell * len(classes)
    figure = new_figure(2 * side + 2.3, 0.2 * rows + gap * len(tables) + 1.4)
    width, height = figure.get_size_inches()
    top = height - 1.35
    for number, table in enumerate(tables):
        tall = 0.2 * len(table.betas)
        for k, values in enumerate((table.train, table.validation)):
            axes = figure.add_axes(
                ((1.2 + k * (side + 0.5)) / width, (top - tall) / height, side / width, tall / height)
            )
            names = [f"β {style.signed(b)}" for b in table.betas]
            matrix(axes, values, names, classes if number == 0 else [""] * len(classes), values=True, rows=k == 0)
            title = f"{table.target}, {('training', 'validation')[k]} images"
            axes.set_xlabel(title, fontsize=8, weight="bold", color=style.INK, labelpad=3)
        top -= tall + gap
    return figure


@dataclass(frozen=True)
class IterationTable:
    """ψ of one target's f' at every β it went through, [β, class]."""

    target: str
    betas: Sequence[float]
    train: Floats
    validation: Floats


def saliency_figure(result: SaliencyStudy) -> Figure:
    """Fig. 4: the maps of two concepts on one image above, what they tell over all pairs below."""
    bars = result.detectors
    figure = new_figure(9.6, 4.75 + 0.22 * max(len(bars), 6) + 0.9)
    width, height = figure.get_size_inches()
    for row, base in enumerate(result.shown.bases):
        images = [
            ("reconstruction", base.frames[0], False), *((m, v, True) for m, v in base.saliency.items()),
            ("counterfactual change", base.difference, True), ("counterfactual", base.frames[-1], False),
        ]  # fmt: skip
        for column, (title, values, heat) in enumerate(images):
            axes = figure.add_axes(
                ((0.35 + 1.53 * column) / width, (height - 2.3 - 1.9 * row) / height, 1.4 / width, 1.4 / height)
            )
            pixels = np.asarray(values, dtype=np.float32)
            (heat_map if heat else picture)(
                axes, pixels if heat else pixels.transpose(1, 2, 0), title if row == 0 else ""
            )
            if column == 0:
                ends = f"{style.number(base.base_scores[0])} → {style.number(base.base_scores[-1])}"
                axes.set_xlabel(f"{base.base} {ends}", fontsize=8, color=style.INK, labelpad=3)
    figure.text(0.35 / width, 1 - 0.12 / height, _concepts(result), fontsize=8.5, color=style.INK, va="top")
    box = (2.2 / width, 0.5 / height, (width - 2.6) / width, 0.22 * max(len(bars), 6) / height)
    axes = figure.add_axes(box)
    if bars:
        _detectors(axes, result)
    else:
        _similar(axes, result)
    return figure


def _concepts(result: SaliencyStudy) -> str:
    """The two concepts in numbers."""
    methods = [name.removesuffix(", cosine") for name in result.concepts if name.endswith(", cosine")]
    alike = [
        f"{m} {' / '.join(style.number(result.concepts[f'{m}, {kind}']) for kind in ('cosine', 'IoU'))}"
        for m in methods
    ]
    aligned = [
        f"{name} = {style.signed(v['psi'])} {style.interval(v['ci_low'], v['ci_high'])}, n {v['n']}"
        for name, v in result.concepts.items()
        if isinstance(v, dict)
    ]
    return f"Maps alike (cosine / IoU): {'; '.join(alike)}.\nAlignment: {'; '.join(aligned)}."


def _detectors(axes: Axes, result: SaliencyStudy) -> None:
    bars = result.detectors
    places = np.arange(len(bars))[::-1]
    values = np.array([d.auroc for d in bars])
    error = np.array([[d.auroc - d.ci_low, d.ci_high - d.auroc] for d in bars]).T
    colours = [style.NEGATIVE if d.name in ALIGNMENT_READINGS else style.MUTED for d in bars]
    axes.axvline(0.5, color=style.RULE, linewidth=1)
    axes.hlines(places, 0.5, values, color=colours, linewidth=3)
    axes.errorbar(values, places, xerr=error, fmt="o", color=style.INK, markersize=4, capsize=2, linewidth=1)
    axes.set_yticks(places, [d.name for d in bars], fontsize=8)
    axes.set_ylim(-0.7, len(bars) - 0.3)
    axes.set_xlim(min(0.4, float(values.min()) - 0.05), 1.02)
    axes.set_title(
        f"Does a head really use an attribute? AUROC over {result.pairs} pairs, {result.used} truly used",
        fontsize=9, color=style.INK, loc="left",
    )  # fmt: skip
    axes.tick_params(labelsize=8, colors=style.INK)
    axes.spines[["top", "right"]].set_visible(False)


def _similar(axes: Axes, result: SaliencyStudy) -> None:
    name = next(iter(result.correlation))
    psi = np.abs(result.table["outgoing ψ"].to_numpy())
    axes.scatter(result.table[name].to_numpy(), psi, s=9, color=style.NEGATIVE, alpha=0.7, linewidths=0)
    axes.set_xlabel(f"similarity of the maps ({name})", fontsize=8, color=style.INK)
    axes.set_ylabel("|ψ|", fontsize=8, color=style.INK)
    axes.set_title(
        f"{len(psi)} pairs; rank correlation {style.number(result.correlation[name])}",
        fontsize=9,
        color=style.INK,
        loc="left",
    )
    axes.tick_params(labelsize=8, colors=style.INK)
    axes.spines[["top", "right"]].set_visible(False)
