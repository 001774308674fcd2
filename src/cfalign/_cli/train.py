"""``cfalign train``: the two models that an audit needs, from the user's own images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cfalign import autoencoders
from cfalign._cli.data import IMAGES, LABELS, opened
from cfalign._cli.output import print_json, progress, say
from cfalign._cli.settings import Trust, options
from cfalign._errors import BadInput
from cfalign._models.downloads import cache_folder
from cfalign.training import AutoencoderTraining, ClassifierTraining, train_autoencoder, train_classifier
from cfalign.training.recipes import planted_shortcuts as planting


def _joined(values: Sequence[float]) -> str:
    return ",".join(f"{v:g}" for v in values)


app = typer.Typer(no_args_is_help=True, help="Train an autoencoder or an attribute classifier on a folder of images.")

Images = Annotated[str, typer.Option(help=IMAGES, show_default=False)]
Size = Annotated[int | None, typer.Option(help="Side of the square images.  \\[default: 64]")]
Epochs = Annotated[float | None, typer.Option(help="How often every image is seen.")]
Seed = Annotated[int | None, typer.Option(help="Seed of every random draw.  \\[default: 0]")]
Flip = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip", help="Mirror half of the images; not where left and right differ.  \\[default: flip]"
    ),
]
Config = Annotated[Path | None, typer.Option(help="TOML file of settings; its keys are those of --set.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting by name, e.g. latent=256; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def autoencoder(
    images: Images,
    labels: Annotated[Path | None, typer.Option(help="Table whose `split` column says what is held out.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the weights; a stopped training goes on.")] = Path(
        "runs/autoencoder"
    ),
    size: Size = None,
    epochs: Epochs = None,
    seed: Seed = None,
    flip: Flip = None,
    config: Config = None,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Train the autoencoder in whose latent space counterfactuals move; ends with its PSNR on held-out images."""
    flags = {"size": size, "epochs": epochs, "seed": seed, "horizontal_flip": flip}
    settings = options(AutoencoderTraining, config=config, assignments=assignments or (), flags=flags)
    with progress() as bars:
        source, table = opened(images, size=settings.size, labels=labels)
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
    images: Images,
    labels: Annotated[Path | None, typer.Option(help=LABELS, show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="Folder for the weights; a stopped training goes on.")] = Path(
        "runs/classifier"
    ),
    autoencoder: Annotated[
        str | None, typer.Option(help="Show it reconstructions too: an autoencoder from `cfalign train autoencoder`.")
    ] = None,
    size: Size = None,
    epochs: Epochs = None,
    seed: Seed = None,
    flip: Flip = None,
    trust: Trust = False,
    config: Config = None,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Train a classifier with one head per attribute; ends with the AUROC of each on held-out images."""
    flags = {"size": size, "epochs": epochs, "seed": seed, "horizontal_flip": flip}
    settings = options(ClassifierTraining, config=config, assignments=assignments or (), flags=flags)
    encoder = None if autoencoder is None else autoencoders.load(autoencoder, trust=trust)
    with progress() as bars:
        source, table = opened(images, size=settings.size, labels=labels)
        if table is None:
            raise BadInput("Missing --labels: a folder of images brings none of its own.")
        report = train_classifier(source, table, out=out, options=settings, autoencoder=encoder, progress=bars)
    if as_json:
        each = {t.target: t.auroc for t in report.targets}
        print_json(
            {"weights": str(report.weights), "auroc": report.auroc, "targets": each, "held_out": report.held_out}
        )
        return
    for target in report.targets:
        value = f"{target.auroc:.3f}" if target.reason is None else f"– ({target.reason})"
        say(f"{target.target:<24}{value}  {target.positives} of {target.positives + target.negatives} positive")
    say(
        f"Mean AUROC {report.auroc:.3f} [{report.ci_low:.3f}, {report.ci_high:.3f}] on {report.held_out} held-out "
        f"images, after {report.seconds:.0f} s of training on {report.train} images."
    )
    for name, reason in report.left_out.items():
        say(f"No head for {name}: {reason}.")
    _skipped(len(report.skipped))
    say(f"Classifier: {report.weights}    measurement: {report.measurement}")


@app.command()
def planted(
    out: Annotated[Path | None, typer.Option(help="Folder for the weights.  \\[default: planted in the cache]")] = None,
    doses: Annotated[str, typer.Option(help="Correlations of target and shortcut.")] = _joined(planting.DOSES),
    seeds: Annotated[str, typer.Option(help="Seeds of faces and training.")] = _joined(planting.SEEDS),
    workers: Annotated[int, typer.Option(help="Trainings at once, one thread each.", min=1)] = 2,
) -> None:
    """Train classifiers with a planted shortcut on rendered faces: ten pairs at every dose and seed, 15 s for each.

    They are the material of `cfalign benchmark detection`, which trains what is missing itself.
    """
    wanted = planting.plants(doses=_numbers(doses, "--doses"), seeds=[int(s) for s in _numbers(seeds, "--seeds")])
    folder = cache_folder() / "planted" if out is None else out.expanduser()
    with progress() as bars:
        planting.plant_all(wanted, folder, workers=workers, progress=bars)
    say(f"{len(wanted)} classifiers in {folder}.")


def _numbers(text: str, flag: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BadInput(f"{flag} expects numbers separated by commas, such as 0,0.5,0.9; got {text!r}.") from None


def _skipped(count: int) -> None:
    if count:
        say(f"{count} image(s) could not be read; the measurement file lists them with the reason.")
