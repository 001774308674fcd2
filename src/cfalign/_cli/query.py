"""``cfalign query``: the images behind a cell of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cfalign._audit.bank import load_bank
from cfalign._audit.contact_sheet import lacking, sheet_rows
from cfalign._audit.remade import AtHand
from cfalign._cli import flags
from cfalign._cli.at_hand import NamedInputs, source_of
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.output import WIDE, complain, print_json, print_table, say
from cfalign._errors import BadInput
from cfalign._figures.plots.contact_sheet import SheetRow, contact_sheet
from cfalign._figures.plots.pixels import save_png
from cfalign._models.device import on_device
from cfalign._results import StartsAt
from cfalign._runs.codec import write_text, written
from cfalign._runs.run import Run


def query(
    context: typer.Context,
    run: flags.Run,
    base: Annotated[str | None, typer.Option(help="Rows of this base alone.")] = None,
    downstream: Annotated[
        str | None, typer.Option(help="A head: with --base the images behind that cell, largest |ψ| first.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help='Condition, e.g. "base_change < -0.5 and heavy_makeup > 0.5".')
    ] = None,
    sql: Annotated[
        str | None, typer.Option(help="A whole SQL query over the tables `responses` and `scores`, instead.")
    ] = None,
    sort: Annotated[
        str | None, typer.Option(help='Name or expression, e.g. "psi.young asc".  \\[default: by size, descending]')
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows at most; 0 for all.")] = 20,
    csv: Annotated[Path | None, typer.Option(help="Write the rows to this file.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet of their images (PNG).")] = None,
    images: Annotated[
        str | None, typer.Option(help="The run's images, for rows whose images the run does not hold.")
    ] = None,
    autoencoder: Annotated[str | None, typer.Option(help="The run's autoencoder, to walk those again.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Side of the run's images, where the autoencoder takes any.", min=1)
    ] = None,
    classifier: Annotated[list[str] | None, typer.Option(help="The run's classifier; may be repeated.")] = None,
    reference: Annotated[str | None, typer.Option(help="The run's reference heads.")] = None,
    bank: Annotated[Path | None, typer.Option(help="The run's bank, which holds the images of all its rows.")] = None,
    trust: flags.Trust = False,
    device: flags.Device = None,
    as_json: flags.Json = False,
) -> None:
    """The images behind a cell of a run, ranked; or any rows of it, by a condition or by SQL.

    In a condition [bold]smiling[/bold] is the score of that head on the counterfactual, [bold]before.smiling[/bold] on
    the image before the walk, [bold]change.smiling[/bold] their difference, [bold]psi.smiling[/bold] the relative
    change, and [bold]base_change[/bold] that of the base; other names are the columns of the run's responses.

    cfalign query runs/demo --base smiling --downstream young --where "psi.young < -0.1" --sheet sheet.png
    """
    refuse_conflicts(context)
    opened = Run(run)
    found = _answer(opened, sql, base=base, downstream=downstream, where=where, sort=sort)
    rows = found.head(limit) if limit else found
    pictured: list[SheetRow] = []
    if sheet is not None:
        named = NamedInputs(images, autoencoder, tuple(classifier or ()), reference, bank, size)
        with on_device(device):
            pictured = _pictured(rows, opened, named, trust=trust)
        cell = " → ".join(name for name in (base, downstream) if name)
        heading = f"{cell + ': ' if cell else ''}{len(rows)} of {len(found)} rows"
        _draw(pictured, sheet, start=opened.start, heading=heading)
    if csv is not None:
        write_text(csv, rows.write_csv())
    incomplete = sum(not row.complete for row in pictured)
    if as_json:
        files = {name: str(path) for name, path in (("csv", csv), ("sheet", sheet)) if path is not None}
        print_json({"run": str(run), "matched": len(found), "rows": rows.to_dicts(), **files, "incomplete": incomplete})
        return
    _print(rows, len(found))
    for name, path in (("Rows", csv), ("Sheet", sheet)):
        if path is not None:
            say(f"{name}: {path}")
    if incomplete:
        complain(f"{incomplete} of {len(pictured)} rows have no counterfactual: their outcome says why.")


def _draw(pictured: Sequence[SheetRow], sheet: Path, *, start: StartsAt, heading: str) -> None:
    if not pictured:
        raise BadInput("No row meets the query, so there is nothing to put on a sheet.")
    with written(sheet) as temporary:
        save_png(contact_sheet(pictured, start=start, heading=heading), temporary)


def _answer(run: Run, sql: str | None, **given: str | None) -> pl.DataFrame:
    if sql is None:
        return run.query(**given)  # type: ignore[arg-type]
    return run.sql(sql)


def _pictured(rows: pl.DataFrame, run: Run, named: NamedInputs, *, trust: bool) -> list[SheetRow]:
    """The rows with their images. Raises BadInput, before any work, that names what is needed to make some again."""
    needed = lacking(rows, run)
    if not needed:
        return sheet_rows(rows, run, at_hand=AtHand(source_of(run, named, None)))
    inputs = named.completed(run)
    if inputs.bank is not None:
        return sheet_rows(rows, run, bank=load_bank(inputs.bank))
    if options := inputs.lacking(run):
        raise BadInput(
            f"{len(needed)} of {len(rows)} rows are not among the images that the run holds, which are those of its "
            f"findings, and are made again from its models: give {' '.join(options)}."
        )
    return sheet_rows(rows, run, at_hand=inputs.loaded(run, trust=trust))


def _print(rows: pl.DataFrame, matched: int) -> None:
    table = Table(title=f"{len(rows)} of {matched} rows", title_justify="left", box=SIMPLE_HEAD)
    for name, kind in rows.schema.items():
        table.add_column(name.replace("[", "\\["), justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in rows.iter_rows():
        table.add_row(*map(_shown, row))
    print_table(table, width=max(WIDE, 14 * len(rows.columns)))


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value).replace("[", "\\[")
