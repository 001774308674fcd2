"""``cfalign explain``: one image, one or more bases."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cfalign import autoencoders, classifiers
from cfalign._audit.informing import informed_for
from cfalign._cli import flags
from cfalign._cli.configuration import chosen
from cfalign._cli.inputs import names_in, opened
from cfalign._cli.output import print_json, print_table, progress, say
from cfalign._explanation.drawing import heading
from cfalign._explanation.explained import ExplainedBase
from cfalign._explanation.explanation import explain as run_explain
from cfalign._explanation.options import ExplainOptions
from cfalign._explanation.writing import check_moving, write_explanation
from cfalign._models.device import on_device
from cfalign._types import Autoencoder

LISTED = 6  # heads per direction on the terminal; explain.json has all
REGIONS = 3  # of each score


def explain(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(help="One image file.", show_default=False)],
    base: Annotated[
        list[str],
        typer.Option(
            help='A head or composition: smiling, or "smiling + 0.3*young". May be repeated.', show_default=False
        ),
    ],
    classifier: Annotated[str, typer.Option(help=f"Classifier that is explained: {flags.MODEL}.")] = "embedded",
    autoencoder: Annotated[str, typer.Option(help=f"Autoencoder of its images: {flags.MODEL}.")] = "embedded",
    reference: flags.OptionalReference = None,
    downstream: flags.Downstream = None,
    increase: Annotated[
        bool | None, typer.Option("--increase", help="Where a base is not predicted, raise its score instead.")
    ] = None,
    drop: Annotated[
        float | None, typer.Option(help="Requested drop (or rise) of the base score.  \\[default: 0.6]")
    ] = None,
    method: flags.Method = None,
    metric: flags.Metric = None,
    residual: flags.Residuals = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="Images of the same kind, 64 or more, that tell how such images differ, for --method completion and "
            "--metric data with an autoencoder that does not know."
        ),
    ] = None,
    difference: Annotated[
        str | None,
        typer.Option(help="Difference map over the frames: mean, max, first-last or int.  \\[default: mean]"),
    ] = None,
    size: flags.Size = None,
    bit_depth: flags.BitDepth = None,
    steps: Annotated[int | None, typer.Option(help="Frames of the transition.  \\[default: 10]")] = None,
    saliency: Annotated[
        bool, typer.Option("--saliency/--no-saliency", help="Make saliency maps of the base too.")
    ] = True,
    regions: Annotated[
        str | None,
        typer.Option(
            metavar="REGIONS",
            help="Where in the image the change of every score lies: grid:4, or a folder of masks (NAME.png, or a "
            "folder NAME with one called as the image is).  \\[default: not split]",
        ),
    ] = None,
    gif: Annotated[
        Path | None, typer.Option(help="File for the transition, .gif or .webp, instead of one in --out.")
    ] = None,
    mp4: Annotated[Path | None, typer.Option(help="The transition as MP4 too; needs the extra \\[video].")] = None,
    out: Annotated[Path, typer.Option(help="Folder for explain.png, explain.json and transition.gif.")] = Path(
        "runs/explain"
    ),
    trust: flags.Trust = False,
    config: flags.Config = None,
    assignments: flags.Set = None,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Why does a classifier answer so on one image? Its counterfactual, what changed, and which heads moved along.

    cfalign explain face.png --base smiling --base "smiling + 0.3*young" --out runs/explain
    """
    given: dict[str, Any] = {"increase": increase, "difference": difference, "size": size, "bit_depth": bit_depth}
    given |= {"device": device, "steps": steps, "search.drop": drop, "saliency": None if saliency else False}
    given |= {"search.method": method, "search.metric": metric, "search.residual": residual, "regions": regions}
    settings = chosen(context, ExplainOptions, config=config, assignments=assignments, flags=given)
    moving = [gif or out / "transition.gif", *([] if mp4 is None else [mp4])]
    for path in moving:
        check_moving(path)
    with progress() as bars, on_device(settings.device):
        encoder: Autoencoder = autoencoders.load(autoencoder, trust=trust)
        if like is not None:
            side = autoencoders.side_of(encoder, asked=size)
            source, _ = opened(like, size=side, bit_depth=bit_depth)
            encoder = informed_for(settings.search, encoder, source, folder=None, seed=0, progress=bars)
        explanation = run_explain(
            image,
            base,
            autoencoder=encoder,
            classifier=classifiers.load(classifier, trust=trust),
            reference=None if reference is None else classifiers.load(reference, trust=trust),
            downstream=names_in(downstream, flag="--downstream"),
            options=settings,
            progress=bars,
        )
        files = write_explanation(explanation, out, transitions=moving)
    if as_json:
        numbers: dict[str, Any] = json.loads(files["numbers"].read_text(encoding="utf-8"))
        print_json({**numbers, "files": {name: str(path) for name, path in files.items()}})
        return
    for explained in explanation.bases:
        _tell(explained)
        _tell_where(explained, explanation.heads)
    for name, path in files.items():
        say(f"{name[0].upper()}{name[1:]}: {path}")


def _tell(base: ExplainedBase) -> None:
    say(heading(base))
    psi = {head: value for head, value in base.psi.items() if math.isfinite(value)}
    if not psi:
        say("  No relative change: the base moved too little for it to be defined.")
        return
    ranked = sorted(psi, key=lambda head: (-psi[head], head))
    aligned = [head for head in ranked if psi[head] > 0][:LISTED]
    inverse = [head for head in reversed(ranked) if psi[head] < 0][:LISTED]
    table = Table(box=SIMPLE_HEAD)
    for name in ("moves with it", "ψ", "moves against it", "ψ"):
        table.add_column(name, justify="right" if name == "ψ" else "left")
    for at in range(max(len(aligned), len(inverse))):
        cells: list[str] = []
        for heads in (aligned, inverse):
            cells += [escape(heads[at]), f"{psi[heads[at]]:+.2f}"] if at < len(heads) else ["", ""]
        table.add_row(*cells)
    print_table(table)


def _tell_where(base: ExplainedBase, heads: tuple[str, ...]) -> None:
    """The strongest regions of the base and of the heads that moved most; explain.json has all."""
    if base.regions is None:
        return
    split, table = base.regions, Table(box=SIMPLE_HEAD)
    for name in ("score", "change", "lies in", "alone", "lost without"):
        table.add_column(name, justify="left" if name in ("score", "lies in") else "right")
    for head in base.moved(heads)[:LISTED]:
        for at, region in enumerate(split.strongest(head)[:REGIONS]):
            shares = (split.inside_shares[head, region], split.lost_shares[head, region])
            first = (escape(heads[head]), f"{split.whole[head]:+.2f}") if at == 0 else ("", "")
            table.add_row(*first, escape(split.names[region]), *(f"{share:.0%}" for share in shares))
    print_table(table)
