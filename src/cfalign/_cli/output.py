"""What a person or a program sees: progress on stderr, results on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from cfalign._figures.plots.pixels import save_png
from cfalign._runs.codec import as_json, write_json, written
from cfalign._runs.run import Run

STDERR = Console(stderr=True)
STDOUT = Console()
MOST = 5  # of a list on the terminal
WIDE = 120  # where there is no terminal to fit into


def complain(sentence: str) -> None:
    """One sentence on stderr."""
    STDERR.print(f"cfalign: {sentence}", markup=False, highlight=False, soft_wrap=True)


def say(sentence: str) -> None:
    """One line on stdout."""
    STDOUT.print(sentence, markup=False, highlight=False, soft_wrap=True)


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(as_json(content), ensure_ascii=False))


class Measured(Protocol):
    """A benchmark's result."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with ``headline``."""

    def lines(self) -> list[str]:
        """For the terminal."""


def tell(result: Measured, *, as_json: bool) -> None:
    """A benchmark's result on stdout, for a person or a program."""
    if as_json:
        print_json(result.as_dict())
    else:
        for line in result.lines():
            say(line)


def tell_and_keep(
    result: Measured, figure: Callable[[], Figure], *, out: Path | None, name: str, as_json: bool
) -> None:
    """As ``tell``; in the folder ``out``, where there is one, ``summary.json`` and the figure ``name``.png."""
    if out is not None:
        write_json(out / "summary.json", result.as_dict())
        with written(out / f"{name}.png") as temporary:
            save_png(figure(), temporary)
    tell(result, as_json=as_json)
    if out is not None and not as_json:
        say(f"Figure: {out / f'{name}.png'}    numbers: {out / 'summary.json'}")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars on stderr, one per stage; plain lines where stderr is no terminal."""
    if not STDERR.is_terminal:
        yield _plain()
        return
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=STDERR) as bars:
        tasks: dict[str, Any] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield update


def _plain() -> Callable[[str, int, int], None]:
    told: dict[str, int] = {}

    def update(stage: str, done: int, total: int) -> None:
        tenth = 10 * done // max(total, 1)
        if tenth > told.get(stage, 0) or (done == total and stage not in told):
            told[stage] = tenth
            STDERR.print(f"{stage}: {done} of {total}", markup=False, highlight=False)

    return update


def summarise(run: Run) -> None:
    """What a finished audit found, for the terminal."""
    record = run.record()
    findings = run.findings()
    table = Table(title="Findings: attributes that the audited heads react to", title_justify="left", box=SIMPLE_HEAD)
    for name, side in (("#", "right"), ("audited head", "left"), ("reacts to", "left"), ("effect", "right")):
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for name in ("95 % interval", "q", "incoming", "outgoing ψ", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for f in findings:
        interval = f"[{f['ci_low']:+.2f}, {f['ci_high']:+.2f}]"
        row = (f["audited"], f["attribute"], f"{f['effect']:+.2f}", interval, _q(f["q"]), _signed(f["incoming"]))
        table.add_row(str(f["rank"]), *(_escaped(v) for v in row), _signed(f["outgoing"]), str(f["n"]))
    if findings:
        (STDOUT if STDOUT.is_terminal else Console(width=WIDE)).print(table)
    else:
        say("No findings: no attribute has an effect that stands out from the null with q < 0.05.")
    cost, skipped = record["cost"], record["skipped"]
    landed, eligible = _landed(record)
    say(
        f"{record['images']} images, {cost['counterfactuals']} counterfactuals of {len(record['bases'])} bases"
        + (f", {landed / eligible:.1%} of {eligible} searches landed" if eligible else "")
        + (f", {cost['search_decodes_per_cf']:.2f} decoder passes per search" if cost["search_decodes_per_cf"] else "")
        + "."
    )
    if skipped:
        say(f"Skipped {len(skipped)} of {len(skipped) + record['images']} images:")
        for image in skipped[:MOST]:
            say(f"  {image['image_id']}: {image['reason']}")
        if len(skipped) > MOST:
            say(f"  … and {len(skipped) - MOST} more, see run.json")
    for base, outcomes in record["outcomes"].items():
        if not sum(n for o, n in outcomes.items() if o != "not_eligible"):
            say(f"No counterfactual for {base}: none of {sum(outcomes.values())} images is predicted positive.")
        elif not used(record, base):
            reasons = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in record["exclusions"][base].items())
            say(f"No counterfactual of {base} counts: {reasons}.")


def used(record: Mapping[str, Any], base: str) -> int:
    """Counterfactuals of a base that its cells rest on."""
    examined, excluded = record["outcomes"][base], record["exclusions"].get(base, {})
    return int(sum(examined.values()) - sum(excluded.values()))


def _landed(record: Mapping[str, Any]) -> tuple[int, int]:
    outcomes = record["outcomes"].values()
    eligible = sum(n for o in outcomes for name, n in o.items() if name != "not_eligible")
    return sum(o.get("reached", 0) + o.get("floor", 0) for o in outcomes), eligible


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def _q(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
