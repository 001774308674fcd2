"""Flags that several commands share, each with its help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cfalign._types import MetricName, Residual
from cfalign.datasets import SPEC as DATA_SET

MODEL = "embedded, a folder or .safetensors file from `cfalign train`, or path/to/file.py:factory"
_EXPORTED = "an exported model (.pt, .pt2, .onnx), or the address of a server"
IMAGES = f"{DATA_SET[0].upper()}{DATA_SET[1:]}."
LABELS = (
    "CSV, TSV, Parquet or JSON with an image column and 0/1 attributes, an export of COCO, FiftyOne or YOLO, or a "
    "folder of classes; by default the labels of the data set."
)

# Data
Images = Annotated[str, typer.Option(help=IMAGES, show_default=False)]
OptionalImages = Annotated[str | None, typer.Option(help=IMAGES)]
Labels = Annotated[Path | None, typer.Option(help=LABELS)]
Positive = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE",
        help="The value that means present in a column of other values of the labels, such as sex=M; may be repeated.",
        show_default=False,
    ),
]
Uncertain = Annotated[
    str | None,
    typer.Option(
        help="What −1 beside 0 in the labels means, and words such as uncertain: ignore (missing), positive or "
        "negative.  \\[default: ignore]"
    ),
]
IdColumn = Annotated[
    str | None, typer.Option(help="Column of the labels that names the images, where its values do not decide.")
]
Split = Annotated[str | None, typer.Option(help="Only images of this split of the labels or the data set.")]
SplitTable = Annotated[
    Path | None, typer.Option(help="Table whose columns are read for --split (its column `split`) and --group.")
]
AuditLabels = Annotated[
    Path | None,
    typer.Option(
        help="Table whose column `split` is read for --split, and any column for --group; attributes change no number: "
        "the report shows how they correlate, and a classifier without a witness is offered one that learns from them."
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of the labels or the data set that says which images belong together: the person (identity), "
        "patient or site. Intervals and p-values are then over these groups, not over images.",
        show_default=False,
    ),
]
Size = Annotated[int | None, typer.Option(min=1, help="Side of the square images, where the autoencoder takes any.")]
BitDepth = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=16,
        help="Bits that grey values use: 12 where 4095 is white in files of 16 bits.  \\[default: what each file says]",
    ),
]

# Models
Audited = Annotated[
    list[str],
    typer.Option(help=f"Audited classifier: {MODEL}, {_EXPORTED}. May be repeated.", show_default=False),
]
Autoencoder = Annotated[str, typer.Option(help=f"Autoencoder of the images: {MODEL}.", show_default=False)]
OptionalAutoencoder = Annotated[str | None, typer.Option(help=f"Autoencoder of the images: {MODEL}.")]
Reference = Annotated[str, typer.Option(help=f"Trusted attribute heads: {MODEL}.", show_default=False)]
References = Annotated[
    list[str], typer.Option(help=f"Trusted attribute heads: {MODEL}. May be repeated.", show_default=False)
]
OptionalReference = Annotated[
    str | None, typer.Option(help="Trusted attribute heads.  \\[default: the classifier's own heads]")
]
OptionalReferences = Annotated[
    list[str] | None,
    typer.Option(help="Trusted attribute heads; may be repeated.  \\[default: the classifier's own heads]"),
]
Judges = Annotated[
    list[str] | None,
    typer.Option(
        help="Independently trained heads of the same attributes, which measure how far each attribute really moved, "
        "or none; may be repeated.  \\[default: embedded:oracle for the embedded reference, that of a named feature, "
        "else none]"
    ),
]
Bases = Annotated[
    str | None,
    typer.Option(
        help='Audited heads or compositions, comma-separated: "smiling, smiling + 0.3*young".  \\[default: all]'
    ),
]
Downstream = Annotated[
    str | None, typer.Option(help="Reference heads whose responses are measured, comma-separated.  \\[default: all]")
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Read model files that are pickles, which can run any code; only for files whose origin you trust. "
        "Without it such a file is refused.",
    ),
]

Device = Annotated[
    str | None,
    typer.Option(
        help="Where the models work: cpu, cuda, cuda:1, mps, or auto for the accelerator of this machine.  "
        "\\[default: cpu]"
    ),
]

# The search
Residuals = Annotated[
    Residual | None,
    typer.Option(
        help="What becomes of what the autoencoder cannot draw of an image: it stays where the walk changes nothing "
        "(gated), everywhere (kept), or nowhere.  \\[default: what the autoencoder says, else gated]"
    ),
]
Metric = Annotated[
    MetricName | None,
    typer.Option(
        help="In which metric a walk goes down: latent, or data, that of the differences between images, for latents "
        "without a scale of their own.  \\[default: latent]"
    ),
]
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
        help="How counterfactuals are made: latent-shift, iterated, latent-cf, completion (a region is filled with "
        "what such images have there; for objects), auto (latent-shift or completion, per base, as the judge "
        "follows), or pixels, the adversarial baseline.  \\[default: latent-shift]"
    ),
]

# Any setting
Config = Annotated[
    Path | None, typer.Option(help="TOML file of settings; it has the same names as --set.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting; may be repeated. `cfalign settings` lists all with range, default and meaning.",
        show_default=False,
    ),
]

# What is written
Run = Annotated[Path, typer.Argument(help="Run directory of an audit.", show_default=False)]
Match = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OLD=NEW",
        help="Audited head of the earlier run and what it is called in the later one; may be repeated. Others are "
        "matched by name, or by a target that nothing else has.",
        show_default=False,
    ),
]
RunFolder = Annotated[Path, typer.Option("--out", help="Run directory; resumed when it holds part of this very run.")]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Start again: the run that is in --out is removed first, not resumed.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]

# Trainings
TrainingSize = Annotated[int | None, typer.Option(help="Side of the square images.  \\[default: 64]")]
Epochs = Annotated[float | None, typer.Option(help="How often every image is seen.")]
Flip = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip", help="Mirror half of the images; not where left and right differ.  \\[default: flip]"
    ),
]
PersonColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of the labels or the data set that says who is on an image; nobody is in both halves, nor both "
        "trained on and held out at random.  \\[default: identity, person_id, patient_id and the like]",
        show_default=False,
    ),
]
WeightFolder = Annotated[
    Path, typer.Option("--out", help="Folder for the weights; a training that was stopped there goes on.")
]

# Benchmarks
Quick = Annotated[bool, typer.Option("--quick", help="Fewer images and models: two minutes at most, noisier numbers.")]
BenchmarkSeed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the faces and of every random draw.")]
BenchmarkFolder = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for parts, numbers and figure; a run that was stopped goes on there."),
]
Models = Annotated[Path | None, typer.Option(help="Folder of trained models.  \\[default: planted in the cache]")]
