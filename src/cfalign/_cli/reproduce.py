"""``cfalign reproduce``: the figures of the paper, from your models or from the embedded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfalign import _paper, autoencoders, classifiers
from cfalign._cli.data import IMAGES, LABELS, in_split, opened
from cfalign._cli.output import complain, print_json, progress, say
from cfalign._cli.settings import Trust
from cfalign._errors import BadInput
from cfalign._paper import FIGURES, FigureInputs, embedded_inputs
from cfalign._runs.progress import Progress


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
    figures = _paper.figures_named(figure)
    with progress() as bars:
        inputs = _inputs(images, labels, classifier, autoencoder, split, quick, seed, trust, bars)
        made = _paper.reproduce(figures, inputs, out=out, quick=quick, seed=seed, progress=bars)
    if as_json:
        print_json(made.entries)
    else:
        for line in made.lines():
            say(line)
    for name, why in made.failed.items():
        complain(f"{name} was not made: {why}")
    if made.failed:
        raise typer.Exit(2)


def _inputs(
    images: str | None,
    labels: Path | None,
    classifier: str,
    autoencoder: str,
    split: str | None,
    quick: bool,
    seed: int,
    trust: bool,
    bars: Progress,
) -> FigureInputs:
    if images is None:
        if (classifier, autoencoder, labels, split) != ("embedded", "embedded", None, None):
            raise BadInput("--classifier, --autoencoder, --labels and --split go with --images.")
        return embedded_inputs(faces=400 if quick else 2000, seed=seed, progress=bars)
    encoder = autoencoders.load(autoencoder, trust=trust)
    source, table = in_split(*opened(images, size=getattr(encoder, "size", None), labels=labels), split)
    return FigureInputs(source, table, classifiers.load(classifier, trust=trust), encoder)
