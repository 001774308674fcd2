"""``cfalign train``: the two models that an audit needs, from the user's own images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from cfalign import autoencoders
from cfalign._cli import engine as where
from cfalign._cli import flags
from cfalign._cli.configuration import chosen
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.inputs import asked, numbers_in, opened
from cfalign._cli.output import print_json, progress, say
from cfalign._errors import BadInput
from cfalign._models.device import on_device
from cfalign._models.downloads import cache_folder
from cfalign.training import AutoencoderTraining, ClassifierTraining, second, train_autoencoder, train_classifier
from cfalign.training.recipes import planted_shortcuts as planting


def _joined(values: Sequence[float]) -> str:
    return ",".join(f"{v:g}" for v in values)


app = typer.Typer(no_args_is_help=True, help="Train an autoencoder or an attribute classifier on a folder of images.")


@app.command()
def autoencoder(
    context: typer.Context,
    images: flags.Images,
    labels: Annotated[Path | None, typer.Option(help="Table whose column `split` says what is held out.")] = None,
    id_column: flags.IdColumn = None,
    out: flags.WeightFolder = Path("runs/autoencoder"),
    size: flags.TrainingSize = None,
    bit_depth: flags.BitDepth = None,
    epochs: flags.Epochs = None,
    seed: flags.Seed = None,
    flip: flags.Flip = None,
    config: flags.Config = None,
    assignments: flags.Set = None,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Train the autoencoder in whose latent space counterfactuals move; ends with its PSNR on held-out images."""
    given = {"size": size, "epochs": epochs, "seed": seed, "horizontal_flip": flip, "device": device}
    settings = chosen(context, AutoencoderTraining, config=config, assignments=assignments, flags=given)
    with progress() as bars:
        given_labels = asked(labels, id_column=id_column, splits_only=True)
        source, table = opened(images, size=settings.size, bit_depth=bit_depth, labels=given_labels)
        report = train_autoencoder(source, out=out, options=settings, labels=table, progress=bars)
    if as_json:
        print_json({"weights": str(report.weights), "psnr": report.psnr, "held_out": report.held_out})
        return
    say(
        f"Reconstructs {report.held_out} held-out images at {report.psnr:.2f} dB ± {report.psnr_sd:.2f} (mean image: "
        f"{report.psnr_mean_image:.2f} dB), after {report.seconds:.0f} s of training on {report.train} images."
    )
    _skipped(len(report.skipped))
    say(f"Autoencoder: {report.weights}    measurement: {report.measurement}")


@app.command()
def classifier(
    context: typer.Context,
    images: flags.Images,
    labels: flags.Labels = None,
    positive: flags.Positive = None,
    uncertain: flags.Uncertain = None,
    id_column: flags.IdColumn = None,
    out: flags.WeightFolder = Path("runs/classifier"),
    autoencoder: Annotated[
        str | None, typer.Option(help="Show it reconstructions too: an autoencoder from `cfalign train autoencoder`.")
    ] = None,
    size: flags.TrainingSize = None,
    bit_depth: flags.BitDepth = None,
    epochs: flags.Epochs = None,
    seed: flags.Seed = None,
    flip: flags.Flip = None,
    as_second: Annotated[
        bool,
        typer.Option(
            "--second",
            help="Train a witness of a first classifier: another architecture, another seed and one half of the "
            "training images. What you set yourself stays.",
        ),
    ] = False,
    person_column: flags.PersonColumn = None,
    trust: flags.Trust = False,
    config: flags.Config = None,
    assignments: flags.Set = None,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """Train a classifier with one head per attribute; ends with the AUROC of each on held-out images.

    cfalign train classifier --images photos/ --labels labels.csv --out heads/

    cfalign train classifier --images photos/ --labels labels.csv --second --out witness/

    Both, where several images are of one person: --person-column identity
    """
    given = {"size": size, "epochs": epochs, "seed": seed, "horizontal_flip": flip, "person_column": person_column}
    given |= {"device": device}
    defaults = asdict(second()) if as_second else {}
    settings = chosen(
        context, ClassifierTraining, config=config, assignments=assignments, flags=given, defaults=defaults
    )
    encoder = None if autoencoder is None else autoencoders.load(autoencoder, trust=trust)
    with progress() as bars:
        given_labels = asked(labels, positive=positive, uncertain=uncertain, id_column=id_column)
        source, table = opened(images, size=settings.size, bit_depth=bit_depth, labels=given_labels)
        if table is None:
            raise BadInput("Missing --labels: a folder of images brings none of its own.")
        report = train_classifier(source, table, out=out, options=settings, autoencoder=encoder, progress=bars)
    if as_json:
        each = {t.target: t.auroc for t in report.targets}
        numbers = {"auroc": report.auroc, "targets": each, "held_out": report.held_out}
        print_json({"weights": str(report.weights), **numbers, "left_out": dict(report.left_out)})
        return
    for target in report.targets:
        value = f"{target.auroc:.3f}" if target.reason is None else f"– ({target.reason})"
        say(f"{target.target:<24}{value}  {target.positives} of {target.positives + target.negatives} positive")
    say(
        f"Mean AUROC {report.auroc:.3f} [{report.ci_low:.3f}, {report.ci_high:.3f}] on {report.held_out} held-out "
        f"images, after {report.seconds:.0f} s of training on {report.train} images."
    )
    say(f"Split of the images: {report.split}.")
    for name, reason in report.left_out.items():
        say(f"No head for {name}: {reason}.")
    _skipped(len(report.skipped))
    say(f"Classifier: {report.weights}    measurement: {report.measurement}")
    if as_second:
        say(f"It is a witness in an audit of the first classifier: cfalign audit … --reference {quote(str(out))}")


@app.command()
def planted(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="Folder for the weights.  \\[default: planted in the cache]")] = None,
    doses: Annotated[str, typer.Option(help="Correlations of target and shortcut.")] = _joined(planting.DOSES),
    seeds: Annotated[str, typer.Option(help="Seeds of faces and training.")] = _joined(planting.SEEDS),
    engine: where.Name = None,
    address: where.Address = None,
    workers: where.Trainers = None,
    device: flags.Device = None,
) -> None:
    """Train classifiers with a planted shortcut on rendered faces: ten pairs at every dose and seed, 15 s for each.

    They are the material of `cfalign benchmark detection`, which trains what is missing itself.
    """
    refuse_conflicts(context)
    wanted = planting.plants(
        doses=numbers_in(doses, float, flag="--doses"), seeds=numbers_in(seeds, int, flag="--seeds")
    )
    folder = cache_folder() / "planted" if out is None else out.expanduser()
    hands = where.chosen_workers(engine, address, workers)
    with progress() as bars, on_device(device):
        planting.plant_all(wanted, folder, workers=hands, progress=bars)
    say(f"{len(wanted)} classifiers in {folder}.")


def _skipped(count: int) -> None:
    if count:
        say(f"{count} image(s) could not be read; the measurement file lists them with the reason.")
