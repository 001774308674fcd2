"""``cfalign settings``: what ``--set`` and a TOML file may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cfalign._audit.options import NOT_READ_BY_A_BANK, AuditOptions
from cfalign._cli import flags
from cfalign._cli.output import print_json, print_table, say
from cfalign._errors import BadInput, nearest
from cfalign._explanation.options import ExplainOptions
from cfalign._rectification.options import RectificationOptions
from cfalign._validation import settings_of
from cfalign.training import AutoencoderTraining, ClassifierTraining

COMMANDS: Mapping[str, type] = {
    "audit": AuditOptions,
    "bank": AuditOptions,
    "explain": ExplainOptions,
    "rectify": RectificationOptions,
    "train autoencoder": AutoencoderTraining,
    "train classifier": ClassifierTraining,
}
"""Commands with ``--set`` and ``--config``."""


def settings(
    command: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(COMMANDS)}.", show_default=False)] = None,
    as_json: flags.Json = False,
) -> None:
    """List the settings of a command: name, what is expected, default, meaning. --json prints their JSON schema.

    cfalign settings audit

    cfalign audit … --set search.drop=0.5
    """
    name = " ".join(command or ())
    if not name:
        say(f"Commands with settings: {', '.join(COMMANDS)}. `cfalign settings COMMAND` lists them.")
        return
    if name not in COMMANDS:
        raise BadInput(f"There are no settings of {name!r}; {nearest(name, COMMANDS)}.")
    if as_json:
        print_json(TypeAdapter(COMMANDS[name]).json_schema())
        return
    table = Table(title=f"Settings of cfalign {name}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("setting", no_wrap=True)
    for column in ("expected", "default", "meaning"):
        table.add_column(column, overflow="fold")
    for setting in settings_of(COMMANDS[name]):
        if name == "bank" and setting.name.partition(".")[0] in NOT_READ_BY_A_BANK:
            continue
        cells = (setting.name, setting.expected, _shown(setting.default), setting.meaning)
        table.add_row(*map(escape, cells))
    print_table(table, width=160)


def _shown(value: Any) -> str:
    """A default as --set takes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
