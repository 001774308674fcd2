"""``cfalign rectify``: compose a head with its shortcuts so that it uses them no more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cfalign import autoencoders, classifiers
from cfalign._cli import engine as where
from cfalign._cli import flags
from cfalign._cli.configuration import chosen
from cfalign._cli.inputs import LabelsAsked, asked, names_in, opened
from cfalign._cli.output import print_json, print_table, progress, say
from cfalign._errors import BadInput
from cfalign._figures.style import interval, number, signed
from cfalign._heads.composition import Composition, parse
from cfalign._models.device import on_device
from cfalign._rectification.options import RectificationOptions
from cfalign._rectification.rectification import rectify as run_rectify
from cfalign._rectification.rectified import Quality, Reading, Rectified
from cfalign._rectification.writing import write_rectified
from cfalign._results import Floats
from cfalign._runs.codec import write_json
from cfalign._types import Autoencoder
from cfalign.benchmarks.planted_rectification import planted_rectification
from cfalign.datasets import ImageSource, Labels, TensorImages
from cfalign.engines import using
from cfalign.synthetic import ATTRIBUTES, render, sample


def rectify(
    context: typer.Context,
    target: Annotated[str | None, typer.Option(help="Head to rectify, e.g. heavy_makeup.")] = None,
    against: Annotated[str | None, typer.Option(help="Its shortcuts, comma-separated: big_lips,wearing_hat.")] = None,
    classifier: Annotated[
        str | None, typer.Option(help=f"Classifier with the target: {flags.MODEL}, or embedded:NAME.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="Classifier with the shortcuts' heads.  \\[default: that of the target]")
    ] = None,
    images: flags.OptionalImages = None,
    faces: Annotated[int | None, typer.Option(min=10, help="So many synthetic faces instead of --images.")] = None,
    correlation: Annotated[
        float, typer.Option(help="Of target and first shortcut on the synthetic faces.", min=-1, max=1)
    ] = 0.0,
    autoencoder: Annotated[
        str | None,
        typer.Option(help=f"Autoencoder of the images: {flags.MODEL}.  \\[default for --faces: embedded]"),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Table with a column of the target: accuracy and AUROC.")] = None,
    positive: flags.Positive = None,
    uncertain: flags.Uncertain = None,
    id_column: flags.IdColumn = None,
    split: Annotated[
        bool, typer.Option("--split", help="Parts train, val and test by the labels' column split, not at random.")
    ] = False,
    solver: Annotated[str | None, typer.Option(help="secant, or momentum: the paper's.  \\[default: secant]")] = None,
    reading: Annotated[
        str | None,
        typer.Option(
            help="What is driven to zero: incoming, ψ of the target under the shortcut's counterfactuals, or outgoing, "
            "the paper's ψ of the shortcut under the target's.  \\[default: incoming; momentum: outgoing]"
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Images with a positive prediction to use.  \\[default: 300]")
    ] = None,
    seed: flags.Seed = None,
    size: flags.Size = None,
    bit_depth: flags.BitDepth = None,
    trust: flags.Trust = False,
    config: flags.Config = None,
    assignments: flags.Set = None,
    planted: Annotated[
        bool, typer.Option("--planted", help="Instead: all shipped planted classifiers, against the known truth.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for rectified.json, summary.json, curves.csv, curves.png.")] = Path(
        "runs/rectify"
    ),
    engine: where.Name = None,
    address: where.Address = None,
    workers: where.Workers = None,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Compose a head with its shortcuts, f' = f + Σ β·shortcut, so that ψ towards them is 0; on held-out images.

    cfalign rectify --faces 1200 --correlation 0.9 --classifier embedded:oval_face_from_mustache --target oval_face
    --against mustache --reference embedded --out runs/rectify

    Afterwards `cfalign audit --classifier runs/rectify/rectified.json …` audits the result like any classifier.
    """
    given = {"solver": solver, "reading": reading, "limit": limit, "seed": seed, "device": device}
    settings = chosen(context, RectificationOptions, config=config, assignments=assignments, flags=given)
    _refuse_file(out)
    if planted:
        with using(where.chosen_engine(engine, address, workers, None)):
            _planted(settings, out, as_json)
        return
    base, shortcuts = _heads(target, against, classifier, reference, trust)
    encoder = _autoencoder(autoencoder, faces, trust)
    if (images is None) == (faces is None):
        raise BadInput("Give either --images FOLDER or --faces NUMBER.")
    given_labels = asked(labels, positive=positive, uncertain=uncertain, id_column=id_column)
    truth: Labels | Floats | None
    if images is not None:
        side = autoencoders.side_of(encoder, asked=size)
        source, truth, table = _photographs(images, given_labels, base, size=side, bit_depth=bit_depth)
    else:
        source, truth, table = _faces(faces or 0, given_labels, base, shortcuts, correlation, settings.seed)
    with progress() as bars:
        found = run_rectify(
            base,
            shortcuts,
            images=source,
            autoencoder=encoder,
            labels=truth,
            split=_parts(table) if split else None,
            options=settings,
            progress=bars,
        )
    write_rectified(found, out, labels=None if table is None else table.reading)
    if as_json:
        print_json({"run": str(out), **found.as_dict()})
    else:
        _tell(found, out)


def _parts(labels: Labels | None) -> Sequence[str | None]:
    if labels is None or labels.split is None:
        raise BadInput("--split needs --labels with a column split that says train, val or test.")
    return labels.split


def _refuse_file(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out} is a file; name a folder.")


def _heads(
    target: str | None, against: str | None, classifier: str | None, reference: str | None, trust: bool
) -> tuple[Composition, list[Composition]]:
    for name, value in (("target", target), ("against", against), ("classifier", classifier)):
        if value is None:
            raise BadInput(f"Missing --{name}; rectification needs --classifier, --target and --against.")
    owner = classifiers.load(str(classifier), trust=trust)
    trusted = owner if reference is None else classifiers.load(reference, trust=trust)
    names = names_in(against, flag="--against") or ()
    return parse(str(target), owner), [parse(name, trusted) for name in names]


def _autoencoder(spec: str | None, faces: int | None, trust: bool) -> Autoencoder:
    if spec is None and faces is None:
        raise BadInput("--images needs --autoencoder; only --faces has one by default.")
    return autoencoders.load(spec or "embedded", trust=trust)


def _photographs(
    images: str, labels: LabelsAsked | None, base: Composition, *, size: int | None, bit_depth: int | None
) -> tuple[ImageSource, Labels | None, Labels | None]:
    """Images, the table that knows the target, and the table that knows the parts.

    A table that is given has to know the target; a data set's own labels may.
    """
    source, table = opened(images, size=size, bit_depth=bit_depth, labels=labels)
    known = table is not None and base.terms[0][1].target in table.targets
    return source, table if labels is not None or known else None, table


def _faces(
    faces: int,
    labels: LabelsAsked | None,
    base: Composition,
    shortcuts: list[Composition],
    correlation: float,
    seed: int,
) -> tuple[ImageSource, Labels | Floats | None, Labels | None]:
    """The same of drawn faces, whose labels of the target are known where it is an attribute of faces."""
    names = base.terms[0][1].target, shortcuts[0].terms[0][1].target
    drawn = sample(faces, seed=seed + 1, correlations={names: correlation} if correlation else None)
    source = TensorImages(render(drawn), [f"face_{i:05d}" for i in range(len(drawn))])
    if labels is not None:
        table = labels.read(source.ids)
        return source, table, table
    if names[0] not in ATTRIBUTES:
        return source, None, None
    return source, drawn.labels()[:, ATTRIBUTES.index(names[0])].double().numpy(), None


def _planted(settings: RectificationOptions, out: Path, as_json: bool) -> None:
    with progress() as bars, on_device(settings.device):
        result = planted_rectification(options=settings, progress=bars)
    write_json(out / "planted.json", result.as_dict())
    if as_json:
        print_json(result.as_dict())
        return
    for line in result.lines():
        say(line)


def _tell(found: Rectified, out: Path) -> None:
    title = f"{found.target.name}, on {found.images['test']} held-out images"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("shortcut", overflow="fold")
    for name in ("β", "ψ before", "95 % interval", "n", "ψ after", "95 % interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for i, shortcut in enumerate(found.against):
        rows = [(shortcut.name, found.before[i], found.after[i])]
        if found.incoming_before:
            rows.append((f"{shortcut.name} (incoming)", found.incoming_before[i], found.incoming_after[i]))
        for label, before, after in rows:
            table.add_row(label, signed(found.beta[i], digits=3), *_cells(before), *_cells(after))
    print_table(table)
    if found.quality_before is not None and found.quality_after is not None:
        for name, digits in (("accuracy", 3), ("auroc", 3)):
            old, new = (number(_of(q, name), digits=digits) for q in (found.quality_before, found.quality_after))
            say(f"{name.upper() if name == 'auroc' else 'Accuracy'}: {old} → {new}, n = {found.quality_after.n}")
    kept = f"step {found.best_step} of {found.curve[-1].step} kept"
    say(f"Outcome: {found.ending_words}, {kept} ({found.options.solver}).")
    say(f"f' = {found.composition.name}, on {found.composition.on}.")
    say(f"Classifier: {out / 'rectified.json'}    curves: {out / 'curves.png'}")


def _of(quality: Quality, name: str) -> float:
    return float(getattr(quality, name))


def _cells(reading: Reading) -> tuple[str, str, str]:
    return signed(reading.psi), escape(interval(reading.ci_low, reading.ci_high)), str(reading.n)
