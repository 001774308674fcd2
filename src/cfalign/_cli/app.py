"""All commands, put together."""

from __future__ import annotations

from typing import Annotated

import typer

import cfalign
from cfalign._cli import benchmark, models, train
from cfalign._cli.audit import audit
from cfalign._cli.bank import bank
from cfalign._cli.check import check
from cfalign._cli.compare import compare
from cfalign._cli.demo import demo
from cfalign._cli.explain import explain
from cfalign._cli.explore import explore
from cfalign._cli.merge import merge
from cfalign._cli.name import name
from cfalign._cli.output import say
from cfalign._cli.query import query
from cfalign._cli.rectify import rectify
from cfalign._cli.report import report
from cfalign._cli.reproduce import reproduce
from cfalign._cli.settings import settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Which features does an image classifier really use? Counterfactuals of one classifier are shown to others.",
    epilog="Start with [bold]cfalign demo[/bold]: two minutes on a CPU, nothing is downloaded.",
)
LOOKING = (demo, audit, bank, merge, query, explain, explore, report, name)
JUDGING = (check, compare, rectify, reproduce, settings)
for command in (*LOOKING, *JUDGING):
    app.command()(command)
app.add_typer(train.app, name="train")
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(models.app, name="models")


def _version(value: bool) -> None:
    if value:
        say(f"cfalign {cfalign.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error too; may stand behind a command as well.")
    ] = False,
) -> None:
    pass
