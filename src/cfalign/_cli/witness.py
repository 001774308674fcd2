"""The commands that give a classifier a witness, where an audit of its own heads had none and labels are at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer

from cfalign._cli.conflicts import command_of, typed
from cfalign._cli.output import complain, show_command
from cfalign._errors import BadInput
from cfalign._findings import Witness
from cfalign._runs.run import Run
from cfalign._validation import from_mapping
from cfalign.datasets import Labels, target_name
from cfalign.training import ClassifierTraining, second
from cfalign.training.classifier import learnable
from cfalign.training.output_folder import recorded_options

_OF_THE_FOLDER = ("out", "fresh")
"""Flags of an audit that say where its run lies."""
_NOT_REPEATED = ("out", "fresh", "reference", "judge")
"""Flags of an audit that the same audit against a witness is not given again."""
_OF_THE_TABLE = ("images", "labels", "id_column", "bit_depth")
"""Flags of an audit that the training of a witness is given too."""
_OF_THE_FIRST = ("half", "seed", "residual", "widths", "horizontal_flip", "person_column")
"""Options of the audited network that decide those of its witness."""
_PLAIN = second()
_NAMED = 5


@dataclass(frozen=True)
class GivenFlag:
    """A flag that the user typed."""

    flag: str
    """As it is typed, such as ``--id-column``."""
    value: Any
    """True for a flag without a value, a list for one that may be repeated."""

    def words(self) -> list[str]:
        """What stands on the command line."""
        if self.value is True:
            return [self.flag]
        values: Sequence[Any] = self.value if isinstance(self.value, list | tuple) else [self.value]
        return [word for one in values for word in (self.flag, str(one))]


Given = Mapping[str, GivenFlag]


def given_flags(context: typer.Context) -> dict[str, GivenFlag]:
    """The flags that the user typed, by the name of their parameter, in the order of the command's own."""
    return {
        str(p.name): GivenFlag(p.opts[0], context.params[str(p.name)])
        for p in context.command.params
        if typed(context, str(p.name))
    }


def typed_command(context: typer.Context) -> list[str]:
    """The command that the user typed, word by word, with the names of its flags written out; but for where the run
    lies, so that the same run has the same record everywhere.
    """
    words = [word for name, flag in given_flags(context).items() if name not in _OF_THE_FOLDER for word in flag.words()]
    return ["cfalign", *command_of(context).split(), *words]


def offer(run: Run, labels: Labels | None, *, given: Given, shape: tuple[int, int]) -> None:
    """Tell on stderr how second heads are trained from these labels, and the audit against them.

    ``labels``: of all images, of whatever split. ``shape``: height and width of the images that the autoencoder takes.
    Nothing is told where the audited heads have a witness, or the labels know none of them. Where no second network can
    be trained, one sentence says why.
    """
    standings = run.record().get("standings", {})
    without = [a.rpartition(":")[2] for a, one in standings.items() if one["witness"] == Witness.NONE]
    heads = [] if labels is None else [name for name in dict.fromkeys(without) if name in labels.targets]
    if labels is None or not heads:
        return
    try:
        options = second_options(given, shape)
        found = learnable(labels, options)
    except BadInput as error:
        complain(f"No witness of {_listed(heads)} can be trained from these images and labels. {error}")
        return
    if few := [f"{name} ({found.left_out[name]})" for name in heads if name in found.left_out]:
        complain(f"The labels do not suffice for a witness of {_listed(few)}.")
    if not (learnt := [name for name in heads if name in found.labels.targets]):
        return
    witness, out = _beside(run.path, "witness"), _beside(run.path, "witnessed")
    complain(f"A second network can learn {_listed(learnt)} from the labels and be a witness; then audit again:")
    show_command(training(given, options, witness))
    show_command(audit_again(given, witness, out, heads=learnt, known=found.labels.targets))


def training(given: Given, options: ClassifierTraining, out: Path) -> list[str]:
    """The command that trains the second heads with these options."""
    words = [word for name in _OF_THE_TABLE if name in given for word in given[name].words()]
    words += ["--size", str(options.size)]
    for name in _OF_THE_FIRST:
        if (value := getattr(options, name)) != getattr(_PLAIN, name):
            words += _setting(name, value)
    return ["cfalign", "train", "classifier", "--second", *words, "--out", str(out)]


def second_options(given: Given, shape: tuple[int, int]) -> ClassifierTraining:
    """Of a second network beside the audited one, as far as it is known how that was trained.

    Raises BadInput for images that the networks of `cfalign train classifier` do not take.
    """
    if shape[0] != shape[1] or shape[0] % 2:
        raise BadInput(f"It takes square images with an even side, got {shape[1]}x{shape[0]}; give another --size.")
    specs: Sequence[str] = given["classifier"].value
    found = next(filter(None, (recorded_options(Path(spec).expanduser()) for spec in specs)), {})
    try:
        first = from_mapping(ClassifierTraining, {name: found[name] for name in _OF_THE_FIRST if name in found})
    except BadInput:  # another version's
        first = ClassifierTraining()
    options = replace(second(first), size=shape[0])
    if "group" in given:
        options = replace(options, person_column=str(given["group"].value))
    halvings = (options.size & -options.size).bit_length() - 1
    return replace(options, widths=options.widths[:halvings])


def _setting(name: str, value: Any) -> list[str]:
    """A setting of the training on the command line."""
    if name == "horizontal_flip":
        return ["--flip" if value else "--no-flip"]
    if name in ("seed", "person_column"):
        return [f"--{name.replace('_', '-')}", str(value)]
    return ["--set", f"{name}={json.dumps(value)}" if name != "half" else f"half={value}"]


def audit_again(given: Given, reference: Path, out: Path, *, heads: Sequence[str], known: Sequence[str]) -> list[str]:
    """The command of the same audit against them.

    The second network has heads of the attributes that the labels know, ``known``. Where the user chose reference
    heads, those of ``heads`` are among them, since each is the witness of its own concept.
    """
    same = {name: flag for name, flag in given.items() if name not in _NOT_REPEATED}
    if (chosen := same.get("downstream")) is not None:
        names = [target_name(name) for name in str(chosen.value).split(",")]
        kept = dict.fromkeys([*(name for name in names if name in known), *heads])
        same["downstream"] = GivenFlag(chosen.flag, ",".join(kept))
    words = [word for flag in same.values() for word in flag.words()]
    return ["cfalign", "audit", *words, "--reference", str(reference), "--out", str(out)]


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return f"{', '.join(texts[:_NAMED])}{more}"


def _beside(run: Path, what: str) -> Path:
    """A folder beside that of the run, whose name says what it is."""
    path = run if run.name else run.resolve()
    return path.with_name(f"{path.name}-{what}")
