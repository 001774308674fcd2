"""What does not go together on the command line: a flag or a setting without effect is an error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import typer

from cfalign._audit.options import DECIDED_BY_THE_BANK, NOT_READ_BY_A_BANK
from cfalign._errors import BadInput


@dataclass(frozen=True)
class Conflict:
    """Flags and settings of a command that have no effect in one case, and why."""

    command: str
    idle: tuple[str, ...]
    """Names of flags and of settings; the name of a group stands for all of its settings."""
    because: str
    beside: str | None = None
    """The flag or setting beside which they have no effect."""
    without: str | tuple[str, ...] = ()
    """The flag or setting, or those, without any of which they have no effect."""

    @property
    def needed(self) -> tuple[str, ...]:
        """Those of which one must be given; empty where nothing is needed."""
        return (self.without,) if isinstance(self.without, str) else self.without

    def applies(self, given: Iterable[str]) -> bool:
        """Whether the case is there: always, where neither ``beside`` nor ``without`` names one."""
        if self.beside is not None:
            return self.beside in given
        return not self.needed or not set(self.needed) & set(given)

    def names(self, name: str) -> bool:
        """Whether a flag or setting is one of those without effect."""
        return any(name == idle or name.startswith(f"{idle}.") for idle in self.idle)


_INPUTS = ("images", "labels", "id_column", "split", "size", "bit_depth", "autoencoder", "reference")
_OF_LABELS = ("positive", "uncertain", "id_column")
_TRAINING = (
    "train planted",
    *(f"benchmark {name}" for name in ("detection", "nulls", "photographs", "references", "robustness", "unnamed")),
)
_SEARCH = ("drop", "method", "strategy")

CONFLICTS = (
    Conflict(
        "audit",
        idle=(*_INPUTS, "judge", "downstream", *_SEARCH, *DECIDED_BY_THE_BANK),
        because="the bank was made with its own",
        beside="bank",
    ),
    Conflict(
        "audit",
        idle=("discover", "discovery"),
        because="unnamed features are walked anew, with the autoencoder: audit the images",
        beside="bank",
    ),
    Conflict("audit", idle=("judge",), because="a judge measures the heads of a reference", without="reference"),
    *(
        Conflict(command, idle=("address", "workers"), because="only Ray has workers (--engine ray)", without="engine")
        for command in ("audit", "bank")
    ),
    *(
        Conflict(command, idle=("address",), because="only Ray has one (--engine ray)", without="engine")
        for command in _TRAINING
    ),
    Conflict("bank", idle=("labels",), because="a bank reads splits and groups only", without=("split", "group")),
    Conflict("bank", idle=NOT_READ_BY_A_BANK, because="only an audit reads this setting"),
    Conflict(
        "rectify",
        idle=(*_INPUTS, "positive", "uncertain", "target", "against", "classifier", "faces", "correlation", "trust"),
        because="the shipped planted classifiers and faces are taken",
        beside="planted",
    ),
    Conflict(
        "rectify",
        idle=("engine",),
        because="one head is rectified in this process, where its images are walked together",
        without="planted",
    ),
    Conflict("rectify", idle=("address", "workers"), because="only Ray has workers (--engine ray)", without="engine"),
    Conflict("rectify", idle=("correlation",), because="only drawn faces have one", without="faces"),
    Conflict("rectify", idle=("size", "bit_depth"), because="faces are drawn, at 64 pixels", beside="faces"),
    Conflict("rectify", idle=("train", "validation"), because="the labels name the parts", beside="split"),
    Conflict(
        "query",
        idle=("images", "size", "autoencoder", "classifier", "reference", "trust"),
        because="images are made again for a contact sheet only",
        without="sheet",
    ),
    Conflict("query", idle=("base", "downstream", "where", "sort"), because="the query itself says it", beside="sql"),
    Conflict(
        "check",
        idle=("as_json", "wanted", "output"),
        because="nothing but a file of relations is written",
        beside="write",
    ),
    Conflict("check", idle=("as_json",), because="the format is named already", beside="wanted"),
    Conflict("check", idle=("match",), because="names are matched with those of a baseline", without="baseline"),
    Conflict(
        "reproduce",
        idle=("labels", "split", "classifier", "autoencoder", "trust"),
        because="rendered faces go with the embedded models",
        without="images",
    ),
    Conflict("train autoencoder", idle=("epochs",), because="steps say how long", beside="steps"),
    Conflict("train classifier", idle=("epochs",), because="steps say how long", beside="steps"),
    Conflict(
        "train classifier",
        idle=("autoencoder",),
        because="the autoencoder reconstructs that share of the images",
        without="reconstructed",
    ),
    Conflict(
        "benchmark semantics",
        idle=("labels", "heads", "judge", "autoencoder", "attributes", "size", "train_split", "split", "out", "trust"),
        because="drawn faces go with the embedded models",
        without="images",
    ),
    Conflict(
        "benchmark detection",
        idle=("models",),
        because="the quick form audits the shipped classifiers",
        beside="quick",
    ),
    *(
        Conflict(command, idle=idle, because="it says how that table is read", without="labels")
        for command, idle in (
            ("audit", ("id_column",)),
            ("bank", ("id_column",)),
            ("train autoencoder", ("id_column",)),
            ("train classifier", _OF_LABELS),
            ("rectify", _OF_LABELS),
            ("report", _OF_LABELS),
            ("reproduce", _OF_LABELS),
            ("benchmark photographs", _OF_LABELS),
            ("benchmark semantics", _OF_LABELS),
        )
    ),
)


def refuse_conflicts(context: typer.Context, settings: Iterable[str] = ()) -> None:
    """Raises BadInput for the first flag or setting that has no effect beside, or without, what else is given.

    ``settings``: dotted names of those given by ``--set`` or in a file.
    """
    flags = {str(parameter.name): parameter.opts[0] for parameter in context.command.params}
    given = {name: flag for name, flag in flags.items() if typed(context, name)}
    given |= {name: f"The setting {name}" for name in settings if name not in given}
    command = command_of(context)
    for conflict in CONFLICTS:
        if conflict.command != command or not conflict.applies(given):
            continue
        for name, shown in given.items():
            if conflict.names(name):
                raise BadInput(f"{shown} {_wording(conflict, flags)}: {conflict.because}.")


def command_of(context: typer.Context) -> str:
    """The words of the command after the program's name, such as ``train classifier``."""
    return context.command_path.removeprefix(context.find_root().command_path).strip()


def typed(context: typer.Context, name: str) -> bool:
    """Whether the flag or argument of this name stands on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _wording(conflict: Conflict, flags: dict[str, str]) -> str:
    if conflict.needed:
        return f"needs {' or '.join(flags.get(name, f'the setting {name}') for name in conflict.needed)}"
    name = conflict.beside
    other = f"`cfalign {conflict.command}`" if name is None else flags.get(name, f"the setting {name}")
    return f"does not go with {other}"
