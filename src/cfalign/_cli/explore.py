"""``cfalign explore``: runs in the browser."""

from __future__ import annotations

import webbrowser
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cfalign._cli import flags
from cfalign._cli.at_hand import NamedInputs
from cfalign._cli.output import complain, say
from cfalign._explorer.serving import serve
from cfalign._explorer.shelf import Fetch, Shelf
from cfalign._models.device import on_device
from cfalign._runs.run import Run

PORT = 8765


def explore(
    runs: Annotated[list[Path], typer.Argument(help="Run directories; several can be compared.", show_default=False)],
    images: flags.OptionalImages = None,
    classifier: Annotated[
        list[str] | None, typer.Option(help="The run's classifier; may be repeated.", show_default=False)
    ] = None,
    autoencoder: Annotated[str | None, typer.Option(help="The run's autoencoder.", show_default=False)] = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="The run's reference heads; may be repeated.", show_default=False)
    ] = None,
    size: flags.Size = None,
    trust: flags.Trust = False,
    device: flags.Device = None,
    host: Annotated[
        str, typer.Option(help="Where to listen. Beyond this machine (0.0.0.0) a token is needed, which is printed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = PORT,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the first page.")] = True,
) -> None:
    """Explore runs in the browser: effects, matrix, the images behind every number, two runs side by side, and marks
    of what is expected or spurious, which `cfalign check` reads.

    Images that a run does not hold are made again from its models: those that its command named, but for files of
    Python, which run only when you name them here.

    cfalign explore runs/demo
    """
    opened = [Run(path) for path in runs]
    for run in opened:
        run.finished()
    references = reference[0] if reference and len(reference) == 1 else reference
    named = NamedInputs(images, autoencoder, tuple(classifier or ()), references, None, size)
    shelf = Shelf([(run, _models(run, named, trust=trust)) for run in opened])

    def ready(address: str) -> None:
        say(f"Exploring {', '.join(map(str, runs))} at {address}    (Ctrl-C ends it)")
        if browser:
            webbrowser.open(address)

    with on_device(device):
        serve(shelf, host=host, port=port, ready=ready)


def _models(run: Run, named: NamedInputs, *, trust: bool) -> Fetch | None:
    """What opens the models of a run when they are needed; None, with a sentence, where some are not known."""
    inputs = named.completed(run)
    if "bank" in run.record()["data"]:
        complain(f"{run.path}: an audit of a bank walks nothing anew, so only images that the run holds are shown.")
        return None
    if missing := inputs.lacking(run):
        complain(f"{run.path}: only images that the run holds are shown. To see all: {' '.join(missing)}.")
        return None
    if named != NamedInputs():
        found = inputs.loaded(run, trust=trust)  # what a person names is refused now, not when it is needed
        return lambda: found
    return partial(inputs.loaded, run, trust=trust)
