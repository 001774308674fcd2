"""The commands that give a classifier a witness, where an audit of its own heads had none and labels are at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join
from typing import Any

from cfalign._cli.output import complain
from cfalign._findings import Witness
from cfalign._runs.run import Run
from cfalign.datasets import Labels


def offer(run: Run, labels: Labels | None, *, given: Mapping[str, Any], side: int | None) -> None:
    """Tell on stderr how second heads are trained from these labels, and the audit against them.

    ``given``: the flags of the audit, by name. ``side``: of the images that the autoencoder takes. Nothing is told
    where the audited heads have a witness, or the labels know none of them.
    """
    standings = run.record().get("standings", {})
    heads = [a.rpartition(":")[2] for a, one in standings.items() if one["witness"] == Witness.NONE]
    if labels is None or not set(heads) & set(labels.targets):
        return
    witness = Path(f"{run.path}-witness")
    complain(
        "The labels know what these heads are meant to see, so a witness can be trained; then the audit gives effects:"
    )
    complain(f"  {join(training(given, side, witness))}")
    complain(f"  {join(audit_again(given, witness, Path(f'{run.path}-witnessed')))}")


def training(given: Mapping[str, Any], side: int | None, out: Path) -> list[str]:
    """The command that trains the second heads."""
    table = _flags({name: given.get(name) for name in ("images", "labels", "id_column", "bit_depth")})
    size = [] if side is None else ["--size", str(side)]
    return ["cfalign", "train", "classifier", "--second", *table, *size, "--out", str(out)]


def audit_again(given: Mapping[str, Any], reference: Path, out: Path) -> list[str]:
    """The command of the same audit against them."""
    same = {name: value for name, value in given.items() if name != "out"}
    return ["cfalign", "audit", *_flags(same), "--reference", str(reference), "--out", str(out)]


def _flags(given: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        values: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
        for one in values:
            if one is True:
                words.append(flag)
            elif one is not None and one is not False:
                words += [flag, str(one)]
    return words
