"""``cfalign reproduce``: the figures of the paper, from your models or from the embedded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfalign import _paper, autoencoders, classifiers
from cfalign._cli import flags
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.inputs import asked, in_split, opened
from cfalign._cli.output import complain, print_json, progress, say
from cfalign._models.device import on_device
from cfalign._paper import FIGURES, FigureInputs, embedded_inputs


def reproduce(
    context: typer.Context,
    figure: Annotated[str, typer.Argument(help=f"{', '.join(FIGURES)}, or all.", show_default=False)],
    images: Annotated[str | None, typer.Option(help=f"Instead of rendered faces: {flags.IMAGES}")] = None,
    labels: flags.Labels = None,
    positive: flags.Positive = None,
    uncertain: flags.Uncertain = None,
    id_column: flags.IdColumn = None,
    classifier: Annotated[str, typer.Option(help="Classifier with the paper's classes as targets.")] = "embedded",
    autoencoder: Annotated[str, typer.Option(help="Autoencoder of the same images.")] = "embedded",
    split: flags.Split = None,
    out: Annotated[Path, typer.Option(help="Folder of figures, numbers and runs.")] = Path("runs/paper"),
    seed: flags.BenchmarkSeed = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Few images: minutes at most, wide intervals.")] = False,
    trust: flags.Trust = False,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Make a figure of the paper again: PNG, SVG, its numbers as CSV, and an entry in summary.json.

    [bold]fig2[/bold] alignment beside correlations, [bold]fig3[/bold] single images, [bold]fig4[/bold] what saliency
    maps tell, [bold]fig5[/bold] an induced shortcut by dose, [bold]fig6[/bold] one image repaired,
    [bold]fig7[/bold], [bold]fig8[/bold], [bold]fig10[/bold] many heads rectified against big_nose: curves, matrices,
    every step; [bold]fig9[/bold] the complete matrix.

    Exits with 2 when a figure could not be made; the others are made all the same.

    cfalign reproduce fig5 --out figures/

    cfalign reproduce all --images photos/ --labels labels.csv --classifier heads/ --autoencoder ae/
    """
    refuse_conflicts(context)
    figures = _paper.figures_named(figure)
    with progress() as bars, on_device(device):
        if images is None:
            inputs = embedded_inputs(faces=400 if quick else 2000, seed=seed, progress=bars)
        else:
            encoder = autoencoders.load(autoencoder, trust=trust)
            side = autoencoders.side_of(encoder, asked=None)
            table_asked = asked(labels, positive=positive, uncertain=uncertain, id_column=id_column)
            source, table = in_split(*opened(images, size=side, labels=table_asked), split)
            inputs = FigureInputs(source, table, classifiers.load(classifier, trust=trust), encoder)
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
