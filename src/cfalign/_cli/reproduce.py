"""``cfalign reproduce``: the figures of the paper, from your models or from the embedded ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import typer
from matplotlib.figure import Figure

from cfalign import autoencoders, classifiers
from cfalign._audit.options import AuditOptions
from cfalign._cli.data import IMAGES, LABELS, in_split, opened
from cfalign._cli.output import complain, print_json, progress, say
from cfalign._cli.settings import Trust
from cfalign._errors import BadInput, CfalignError, nearest
from cfalign._explanation.options import ExplainOptions
from cfalign._figures.plots.explanation import explanation_figure
from cfalign._figures.plots.pixels import save_png
from cfalign._figures.svg import matrix_order
from cfalign._paper import (
    CLASSES,
    DOSES,
    Collection,
    Material,
    beside_the_paper,
    collection,
    comparison,
    complete,
    embedded,
    grid,
    induced,
    iterations,
    matrices,
    saliency_study,
    study,
    with_common_shortcut,
)
from cfalign._paper import drawing as paper
from cfalign._rectification import RectificationOptions
from cfalign._results import Cell
from cfalign._runs.codec import write_json, write_text, written
from cfalign._runs.progress import Progress

QUICK_TARGETS = ("heavy_makeup", "high_cheekbones", "young")
"""Rectified in Figs. 7, 8 and 10 of ``--quick``."""


@dataclass(frozen=True)
class Desk:
    """Where figures are made and how large."""

    material: Material
    out: Path
    quick: bool
    seed: int
    bars: Progress

    def progress(self, figure: str) -> Progress:
        """Stages under the figure's name."""

        def report(stage: str, done: int, total: int) -> None:
            self.bars(f"{figure} {stage}", done, total)

        return report

    @cached_property
    def collection(self) -> Collection:
        """Figs. 7, 8 and 10 show the same rectifications."""
        options = RectificationOptions(reading="outgoing", limit=150 if self.quick else 400, seed=self.seed)
        return collection(
            with_common_shortcut(self.material), options=options, progress=self.progress("rectification"),
            targets=QUICK_TARGETS if self.quick else CLASSES,
        )  # fmt: skip

    def options(self, limit: int, quick: int) -> AuditOptions:
        """``limit`` counterfactuals per base, or ``quick`` of them."""
        return AuditOptions(limit=quick if self.quick else limit, shown=0, seed=self.seed)

    def run(self, name: str) -> Path:
        """The run directory behind a figure."""
        return self.out / "runs" / name

    def save(self, name: str, figure: Figure) -> None:
        """PNG and SVG."""
        with written(self.out / f"{name}.png") as temporary:
            save_png(figure, temporary)
        with written(self.out / f"{name}.svg") as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _fig2(desk: Desk) -> dict[str, Any]:
    result = comparison(desk.material, desk.run("fig2"), options=desk.options(400, 40), progress=desk.progress("fig2"))
    desk.save("fig2", paper.comparison_figure(result))
    write_text(desk.out / "fig2.csv", result.table.write_csv())
    off = result.table.filter(pl.col("base") != pl.col("downstream"))
    return {
        "classes": list(result.classes),
        "skipped": result.skipped,
        "pairs": len(off),
        "correlated_but_not_aligned": result.unused(),
        "asymmetric": result.asymmetric(),
    }


def _fig3(desk: Desk) -> dict[str, Any]:
    return {base: _studied(desk, f"fig3_{base}", base) for base in ("male", "attractive")}


def _fig4(desk: Desk) -> dict[str, Any]:
    result = saliency_study(
        desk.material, desk.run("fig4"), images=4 if desk.quick else 16, interventions=20 if desk.quick else 50,
        options=desk.options(60, 12), progress=desk.progress("fig4"),
    )  # fmt: skip
    desk.save("fig4", paper.saliency_figure(result))
    write_text(desk.out / "fig4.csv", result.table.write_csv())
    return {
        "concepts": dict(result.concepts),
        "images": result.images,
        "pairs": result.pairs,
        "used": result.used,
        "auroc": [vars(d) for d in result.detectors],
        "rank_correlation_with_psi": dict(result.correlation),
    }


def _fig5(desk: Desk) -> dict[str, Any]:
    doses = (0.0, 0.3, 1.0) if desk.quick else DOSES
    result = induced(
        desk.material, desk.run("fig5"), options=desk.options(200, 30), progress=desk.progress("fig5"), doses=doses
    )
    desk.save("fig5", paper.dose_figure(result))
    write_text(desk.out / "fig5.csv", result.table.write_csv())
    pictures = _studied(desk, "fig5_images", result.target, f"{result.target} + 0.3*{result.shortcut}")
    return {"monotone": result.monotone, "doses": result.table.to_dicts(), "images": pictures}


def _fig6(desk: Desk) -> dict[str, Any]:
    return _studied(desk, "fig6", "heavy_makeup", "heavy_makeup - 0.3*big_lips")


def _fig7(desk: Desk) -> dict[str, Any]:
    result = desk.collection
    desk.save("fig7", paper.collection_curves(result))
    parts = ("beta", "psi_train", "psi_logit_train", "psi_validation", "psi_logit_validation")
    curves = [
        {"target": target, "step": s.step, **{part: getattr(s, part)[0] for part in parts}}
        | {"n_train": s.n_train, "n_validation": s.n_validation, "kept": s.step == found.best_step}
        for target, found in result.found.items()
        for s in found.curve
    ]
    write_text(desk.out / "fig7.csv", pl.DataFrame(curves, infer_schema_length=None).write_csv())
    return {"shortcut": result.shortcut, "headline": result.headline, "failures": result.failures()}


def _fig8(desk: Desk) -> dict[str, Any]:
    result = desk.collection
    table = matrices(result, desk.run("fig8"), options=desk.options(400, 40), progress=desk.progress("fig8"))
    before, after = (grid(table, when, result.classes) for when in ("before", "after"))
    desk.save("fig8", paper.before_after_figure(before, after, result.classes, shortcut=result.shortcut))
    write_text(desk.out / "fig8.csv", table.write_csv())
    write_text(desk.out / "fig8_targets.csv", result.table().write_csv())
    column = result.classes.index(result.shortcut)
    return {
        "shortcut": result.shortcut,
        "headline": result.headline,
        "failures": result.failures(),
        "baseline_and_the_papers": beside_the_paper(before, result.classes),
        "column": {
            c: {"before": before[i, column], "after": after[i, column]}
            for i, c in enumerate(result.classes)
            if c != result.shortcut
        },
        "targets": result.table().to_dicts(),
    }


def _fig10(desk: Desk) -> dict[str, Any]:
    result = desk.collection
    table = iterations(result, desk.run("fig10"), options=desk.options(60, 15), progress=desk.progress("fig10"))
    write_text(desk.out / "fig10.csv", table.write_csv())
    blocks = []
    for target, found in result.found.items():
        mine = table.filter(pl.col("target") == target)
        shape = (len(found.curve), len(result.classes))
        train, validation = (mine.filter(part=p)["psi"].to_numpy().reshape(shape) for p in ("train", "val"))
        blocks.append(paper.IterationTable(target, [s.beta[0] for s in found.curve], train, validation))
    desk.save("fig10", paper.iterations_figure(blocks, result.classes))
    return {"shortcut": result.shortcut, "steps": {t: len(f.curve) for t, f in result.found.items()}}


def _fig9(desk: Desk) -> dict[str, Any]:
    table = complete(desk.material, desk.run("fig9"), options=desk.options(100, 8), progress=desk.progress("fig9"))
    cells = [_cell(row) for row in table.to_dicts()]
    bases, downstream = matrix_order(cells)
    of = {(c.base, c.downstream): c.psi for c in cells}
    desk.save("fig9", paper.matrix_figure(np.array([[of[b, d] for d in downstream] for b in bases]), bases, downstream))
    write_text(desk.out / "fig9.csv", table.write_csv())
    return {"heads": len(bases), "order": bases, "n": {c.base: c.n for c in cells if c.base == c.downstream}}


def _cell(row: Mapping[str, Any]) -> Cell:
    known: dict[str, Any] = {name: np.nan if value is None else value for name, value in row.items()}
    return Cell(**known)


def _studied(desk: Desk, name: str, *bases: str) -> dict[str, Any]:
    explained = study(desk.material, *bases, options=ExplainOptions(saliency=False))
    desk.save(name, explanation_figure(explained))
    return {
        "image": explained.name,
        **{b.base: {"outcome": b.outcome.value, "psi": dict(b.psi)} for b in explained.bases},
    }


FIGURES: Mapping[str, Callable[[Desk], dict[str, Any]]] = {
    "fig2": _fig2,
    "fig3": _fig3,
    "fig4": _fig4,
    "fig5": _fig5,
    "fig6": _fig6,
    "fig7": _fig7,
    "fig8": _fig8,
    "fig9": _fig9,
    "fig10": _fig10,
}


def reproduce(
    figure: Annotated[str, typer.Argument(help=f"{', '.join(FIGURES)}, or all.")],
    images: Annotated[str | None, typer.Option(help=f"Instead of rendered faces: {IMAGES}")] = None,
    labels: Annotated[Path | None, typer.Option(help=LABELS)] = None,
    classifier: Annotated[str, typer.Option(help="Classifier with the paper's classes as targets.")] = "embedded",
    autoencoder: Annotated[str, typer.Option(help="Autoencoder of the same images.")] = "embedded",
    split: Annotated[str | None, typer.Option(help="Only images of this split of the labels.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of figures, numbers and runs.")] = Path("runs/paper"),
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Few images: minutes at most, wide intervals.")] = False,
    trust: Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Make a figure of the paper again: PNG, SVG, its numbers as CSV, and an entry in summary.json.

    [bold]fig2[/bold] alignment beside correlations, [bold]fig3[/bold] single images, [bold]fig4[/bold] what saliency
    maps tell, [bold]fig5[/bold] an induced shortcut by dose, [bold]fig6[/bold] one image repaired,
    [bold]fig7[/bold], [bold]fig8[/bold], [bold]fig10[/bold] many heads rectified against big_nose: curves, matrices,
    every step; [bold]fig9[/bold] the complete matrix.

    cfalign reproduce fig5 --out figures/

    cfalign reproduce all --images photos/ --labels labels.csv --classifier heads/ --autoencoder ae/
    """
    if figure != "all" and figure not in FIGURES:
        raise BadInput(f"No figure {figure!r}; {nearest(figure, (*FIGURES, 'all'))}.")
    summary: dict[str, Any] = {}
    with progress() as bars:
        material = _material(images, labels, classifier, autoencoder, split, quick, seed, trust, bars)
        desk = Desk(material, out, quick, seed, bars)
        for name in FIGURES if figure == "all" else (figure,):
            try:
                summary[name] = FIGURES[name](desk)
            except CfalignError as error:
                if figure != "all":
                    raise
                summary[name] = {"failed": str(error)}
                complain(f"{name}: {error}")
    write_json(out / "summary.json", {**_earlier(out), **summary})
    if as_json:
        print_json(summary)
        return
    for name, entry in summary.items():
        for line in _lines(name, entry):
            say(line)
    say(f"Figures, numbers and summary.json are in {out}.")


def _material(
    images: str | None,
    labels: Path | None,
    classifier: str,
    autoencoder: str,
    split: str | None,
    quick: bool,
    seed: int,
    trust: bool,
    bars: Progress,
) -> Material:
    if images is None:
        if (classifier, autoencoder, labels, split) != ("embedded", "embedded", None, None):
            raise BadInput("--classifier, --autoencoder, --labels and --split go with --images.")
        return embedded(faces=400 if quick else 2000, seed=seed, progress=bars)
    encoder = autoencoders.load(autoencoder, trust=trust)
    source, table = in_split(*opened(images, size=getattr(encoder, "size", None), labels=labels), split)
    return Material(source, table, classifiers.load(classifier, trust=trust), encoder)


def _earlier(out: Path) -> dict[str, Any]:
    """The entries of figures made before."""
    file = out / "summary.json"
    if not file.is_file():
        return {}
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def _lines(name: str, entry: Mapping[str, Any]) -> list[str]:
    if "failed" in entry:
        return [f"{name}: not made, {entry['failed']}"]
    if name == "fig2":
        unused = [f"{r['base']} → {r['downstream']}" for r in entry["correlated_but_not_aligned"][:5]]
        uneven = [" and ".join(a["pair"]) for a in entry["asymmetric"][:3]]
        lines = [
            f"fig2: correlated but not aligned: {', '.join(unused) or 'none'}; most asymmetric: {', '.join(uneven)}"
        ]
        return lines + [f"fig2: {c} skipped: {why}" for c, why in entry["skipped"].items()]
    if name == "fig4":
        found = "; ".join(
            f"{d['name']} {d['auroc']:.3f} [{d['ci_low']:.3f}, {d['ci_high']:.3f}]" for d in entry["auroc"]
        )
        return [f"fig4: AUROC of truly used pairs: {found}" if found else "fig4: done (no truth for these images)"]
    if name == "fig5":
        doses = (
            f"{d['coefficient']:g}: {d['psi']:+.2f} [{d['ci_low']:+.2f}, {d['ci_high']:+.2f}]" for d in entry["doses"]
        )
        return [f"fig5: ψ by dose {'; '.join(doses)}"]
    if name in ("fig7", "fig8"):
        h = entry["headline"]
        lines = [
            f"{name}: |ψ| → {entry['shortcut']} falls for {h['targets_with_smaller_psi']} of {h['targets']} targets, "
            f"mean {h['mean_abs_psi_before']:.3f} to {h['mean_abs_psi_after']:.3f}; accuracy "
            f"{h['mean_accuracy_change']:+.3f}"
        ]
        return lines + [f"{name}: {t}: {why}" for t, why in entry["failures"].items()]
    if name == "fig9":
        return [f"fig9: {entry['heads']} heads"]
    return [f"{name}: done"]
