"""The commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import cfalign
from cfalign import autoencoders, classifiers, report
from cfalign._audit.audit import audit as run_audit
from cfalign._audit.bank import bank as make_bank
from cfalign._audit.bank import load_bank
from cfalign._audit.demo import demo as experiment
from cfalign._audit.options import AuditOptions
from cfalign._cli import benchmark, models, rectify, train
from cfalign._cli.check import check
from cfalign._cli.data import IMAGES, LABELS, in_split, opened
from cfalign._cli.explain import explain
from cfalign._cli.output import print_json, progress, say, summarise
from cfalign._cli.query import query
from cfalign._cli.reproduce import reproduce
from cfalign._cli.settings import Trust, options
from cfalign._errors import BadInput
from cfalign._heads.reference import Reference
from cfalign._runs.run import Run
from cfalign._types import Autoencoder, Classifier
from cfalign.datasets import ImageSource

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Which features does an image classifier really use? Counterfactuals of one classifier are shown to others.",
    epilog="Start with [bold]cfalign demo[/bold]: two minutes on a CPU, nothing is downloaded.",
)
app.add_typer(train.app, name="train")
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(models.app, name="models")
app.command()(query)
app.command()(explain)
app.command()(rectify.rectify)
app.command()(reproduce)
app.command()(check)

SPEC = "embedded, a folder or .safetensors file from `cfalign train`, or path/to/file.py:factory"
EXPORTED = "an exported model (.pt, .pt2, .onnx), or the address of a server"
Images = Annotated[str, typer.Option(help=IMAGES, show_default=False)]
Out = Annotated[Path, typer.Option(help="Run directory; resumed when it holds part of this very run.")]
Limit = Annotated[int | None, typer.Option(help="Counterfactuals per base.  \\[default: 200]")]
Seed = Annotated[int | None, typer.Option(help="Seed of every random draw.  \\[default: 0]")]
Batch = Annotated[int | None, typer.Option(help="Images per forward pass.  \\[default: 64]")]
Drop = Annotated[float | None, typer.Option(help="Requested drop of the base score.  \\[default: 0.6]")]
Strategy = Annotated[
    str | None, typer.Option(help="refined, or schedule: the authors' own steps.  \\[default: refined]")
]
Method = Annotated[
    str | None,
    typer.Option(
        help="How counterfactuals are made: latent-shift, iterated, latent-cf, or pixels, the adversarial baseline.  "
        "\\[default: latent-shift]"
    ),
]
Config = Annotated[Path | None, typer.Option(help="TOML file of settings; its keys are those of --set.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Any setting by name, e.g. search.tolerance=0.02 or effects.ridge=0.1; may be repeated."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
Size = Annotated[int | None, typer.Option(help="Side of the square images, where the autoencoder does not say.")]
Labels = Annotated[Path | None, typer.Option(help=LABELS)]
Judge = Annotated[
    str | None,
    typer.Option(
        help="An independently trained classifier of the same attributes that says how far they really moved, or "
        "none.  \\[default: embedded:oracle for the embedded reference, else none]"
    ),
]
Split = Annotated[str | None, typer.Option(help="Only images of this split of the labels or the data set.")]


def _version(value: bool) -> None:
    if value:
        say(f"cfalign {cfalign.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    out: Out = Path("runs/demo"),
    faces: Annotated[int, typer.Option(min=100, help="Synthetic faces to render.")] = 1000,
    limit: Annotated[int, typer.Option(min=1, help="Counterfactuals per base.")] = 60,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Find two planted shortcuts in embedded classifiers, on synthetic faces. Nothing is downloaded."""
    settings = options(AuditOptions, config=None, assignments=(), flags={"limit": limit, "seed": seed})
    with progress() as bars:
        run = experiment(out, faces=faces, options=settings, progress=bars)
    _finish(run, as_json)


@app.command()
def audit(
    classifier: Annotated[
        list[str], typer.Option(help=f"What is audited: {SPEC}, {EXPORTED}. May be repeated.", show_default=False)
    ],
    images: Annotated[str | None, typer.Option(help=IMAGES)] = None,
    autoencoder: Annotated[str | None, typer.Option(help=f"{SPEC}.")] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Trusted attribute heads to audit against; by default the classifier's own heads."),
    ] = None,
    judge: Judge = None,
    bank: Annotated[
        Path | None, typer.Option(help="A bank from `cfalign bank`, instead of images: forward passes only.")
    ] = None,
    bases: Annotated[
        str | None,
        typer.Option(
            help='Audited heads or compositions, comma-separated: "smiling, smiling + 0.3*young".  \\[default: all]'
        ),
    ] = None,
    downstream: Annotated[
        str | None, typer.Option(help="Reference heads to look at, comma-separated.  \\[default: all]")
    ] = None,
    labels: Labels = None,
    split: Split = None,
    out: Out = Path("runs/audit"),
    limit: Limit = None,
    seed: Seed = None,
    batch: Batch = None,
    drop: Drop = None,
    method: Method = None,
    strategy: Strategy = None,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate",
            help="Let black boxes be bases too: their gradient is estimated with forward passes, two per latent "
            "dimension and image, at most 1,024.",
        ),
    ] = False,
    size: Size = None,
    trust: Trust = False,
    config: Config = None,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Audit a classifier on a folder of images: alignment matrix, effects of every attribute, findings, report.

    cfalign audit --images photos/ --classifier model.py:make --autoencoder ae/ --reference heads/ --out runs/mine
    """
    flags = {"limit": limit, "seed": seed, "batch": batch, "search.drop": drop, "search.strategy": strategy}
    flags |= {"search.method": method, "estimate.enabled": estimate or None}
    settings = options(AuditOptions, config=config, assignments=assignments or (), flags=flags)
    subjects = [classifiers.load(spec, trust=trust) for spec in classifier]
    heads = _names(bases)
    with progress() as bars:
        if bank is not None:
            _refuse_beside_bank(
                images=images, autoencoder=autoencoder, reference=reference, judge=judge, downstream=downstream,
                labels=labels, split=split, limit=limit, drop=drop, method=method, strategy=strategy, size=size,
                seed=seed,
            )  # fmt: skip
            run = run_audit(load_bank(bank), subjects, bases=heads, options=settings, out=out, progress=bars)
        else:
            if images is None or autoencoder is None:
                raise BadInput(
                    "An audit needs --images and --autoencoder, or --bank from `cfalign bank` instead of both."
                )
            if reference is None and judge is not None:
                raise BadInput("--judge watches the heads of --reference: give both.")
            encoder = autoencoders.load(autoencoder, trust=trust)
            run = run_audit(
                _source(images, encoder, size, labels, split),
                subjects,
                autoencoder=encoder,
                reference=None if reference is None else _watched(reference, judge, trust),
                bases=heads,
                downstream=_names(downstream),
                options=settings,
                out=out,
                progress=bars,
            )
    _finish(run, as_json)


@app.command()
def bank(
    images: Images,
    reference: Annotated[str, typer.Option(help=f"Trusted attribute heads: {SPEC}.", show_default=False)],
    autoencoder: Annotated[str, typer.Option(help=f"{SPEC}.", show_default=False)],
    judge: Judge = None,
    attributes: Annotated[
        str | None, typer.Option(help="Heads that get counterfactuals, comma-separated.  \\[default: all]")
    ] = None,
    labels: Labels = None,
    split: Split = None,
    out: Out = Path("runs/bank"),
    limit: Limit = None,
    seed: Seed = None,
    batch: Batch = None,
    drop: Drop = None,
    method: Method = None,
    size: Size = None,
    trust: Trust = False,
    config: Config = None,
    assignments: Set = None,
    as_json: Json = False,
) -> None:
    """Make counterfactuals of trusted heads once; `cfalign audit --bank` then audits any model by forward passes."""
    flags = {"limit": limit, "seed": seed, "batch": batch, "search.drop": drop, "search.method": method}
    settings = options(AuditOptions, config=config, assignments=assignments or (), flags=flags)
    encoder = autoencoders.load(autoencoder, trust=trust)
    with progress() as bars:
        made = make_bank(
            _source(images, encoder, size, labels, split),
            _watched(reference, judge, trust),
            autoencoder=encoder,
            attributes=_names(attributes),
            options=settings,
            out=out,
            progress=bars,
        )
    record = made.run.record()
    if as_json:
        print_json({"bank": str(out), "heads": record["heads"], "attributes": record["bases"]})
    else:
        say(f"Bank of {len(record['bases'])} attributes in {out}.")
        say(f"Audit any model with: cfalign audit --bank {out} --classifier …")


@app.command(name="report")
def write_report(run: Annotated[Path, typer.Argument(help="A run directory.")]) -> None:
    """Write report.html, report.md and report.json of a run again."""
    for kind, path in report.write(run).items():
        say(f"{kind}: {path}")


def _names(text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise BadInput(f"Expected names separated by commas, got {text!r}.")
    return names


def _watched(spec: str, judge: str | None, trust: bool) -> Classifier | Reference:
    """The reference heads with who watches them."""
    reference = classifiers.load(spec, trust=trust)
    if judge is None:
        return reference
    return Reference(reference, None if judge == "none" else classifiers.load(judge, trust=trust))


def _refuse_beside_bank(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise BadInput(f"--{name} does not go with --bank: the bank was made from its own.")


def _source(
    images: str, autoencoder: Autoencoder, size: int | None, labels: Path | None, split: str | None
) -> ImageSource:
    side = autoencoders.side_of(autoencoder, asked=size)
    return in_split(*opened(images, size=side, labels=labels), split)[0]


def _finish(run: Run, as_json: bool) -> None:
    files = report.write(run.path)
    if as_json:
        record = run.record()
        keys = (
            "heads",
            "bases",
            "audited",
            "attributes",
            "judges",
            "controls",
            "outcomes",
            "exclusions",
            "cost",
            "images",
            "skipped",
            "timing",
        )
        print_json({"run": str(run.path), **{key: record[key] for key in keys}, "findings": run.findings()})
        return
    summarise(run)
    say(f"Report: {files['html']}")
