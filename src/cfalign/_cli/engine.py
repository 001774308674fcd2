"""Where the work of a command runs, as its flags say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cfalign._cli.output import print_json, say
from cfalign._runs.run import Run
from cfalign.engines import Engine, Local, Part, Ray
from cfalign.training.processes import Workers as Hands

EngineName = Literal["local", "ray"]
Name = Annotated[
    EngineName | None,
    typer.Option(
        help="Where the work runs: local, this process, or ray, workers on this machine or a cluster, which write into "
        "--out themselves.  \\[default: local]"
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Ray cluster to use.  \\[default: RAY_ADDRESS, else workers are started on this machine]",
        show_default=False,
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Workers of Ray.  \\[default: as many as there is room for]")]
Trainers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes at once, one thread each; workers of Ray.  \\[default: 2; Ray: as many as there is room for]",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Walk only every N-th chunk of images, from the I-th on, as one job of an array; the same command without "
        "it finishes the run.",
        show_default=False,
    ),
]


def chosen_engine(name: EngineName | None, address: str | None, workers: int | None, shard: str | None) -> Engine:
    """The engine that the flags name. Raises BadInput for a shard that is none."""
    part = Part() if shard is None else Part.read(shard)
    return Ray(address=address, workers=workers, part=part) if name == "ray" else Local(part=part)


def chosen_workers(name: EngineName | None, address: str | None, workers: int | None) -> Hands:
    """Who does the trainings that the flags name: so many processes, or the workers of Ray."""
    return Ray(address=address, workers=workers) if name == "ray" else workers or 2


def tell_part(run: Run, part: Part, *, out: Path, as_json: bool) -> None:
    """What was done of a run, and how it is finished."""
    walked = len(run.shards("responses"))
    if as_json:
        print_json({"run": str(out), "shard": str(part), "chunks": walked})
        return
    say(f"Shard {part} is done; {out} holds {walked} walked chunk(s).")
    say(
        "When all shards are done, the same command without --shard finishes the run; if they are in several folders, "
        "put these together first: cfalign merge PART PART … --out RUN"
    )
