"""``cfalign query``: the images behind a cell of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cfalign import autoencoders, classifiers
from cfalign._audit.bank import load_bank
from cfalign._audit.contact_sheet import SheetModels, lacking, sheet_rows
from cfalign._cli import flags
from cfalign._cli.conflicts import refuse_conflicts
from cfalign._cli.output import WIDE, complain, print_json, print_table, say
from cfalign._errors import BadInput
from cfalign._figures.plots.contact_sheet import SheetRow, contact_sheet
from cfalign._figures.plots.pixels import save_png
from cfalign._results import StartsAt
from cfalign._runs.codec import write_text, written
from cfalign._runs.run import Run
from cfalign.datasets import ImageFolder, ImageSource, open_images

DISPLAYED = 128  # side of originals where no autoencoder says what size they are walked at


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
        named = SheetInputs(images, autoencoder, tuple(classifier or ()), reference, bank, size)
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


@dataclass(frozen=True)
class SheetInputs:
    """By which names a sheet's rows are made again."""

    images: str | None
    autoencoder: str | None
    classifier: tuple[str, ...]
    reference: str | Sequence[str] | None
    """One, or several whose heads stand side by side."""
    bank: Path | None
    size: int | None

    def completed(self, recorded: Mapping[str, Any]) -> SheetInputs:
        """With what the run was given, but for files of Python, which run only when a person names them."""
        safe = {k: v for k, v in recorded.items() if not _runs_code(v)}
        bank = safe.get("bank")
        return SheetInputs(
            images=self.images or safe.get("images"),
            autoencoder=self.autoencoder or safe.get("autoencoder"),
            classifier=self.classifier or tuple(safe.get("classifier") or ()),
            reference=self.reference or safe.get("reference"),
            bank=self.bank or (Path(bank) if bank and Path(bank).is_dir() else None),
            size=self.size or safe.get("size"),
        )


def _runs_code(spec: object) -> bool:
    return any(".py" in str(one) for one in (spec if isinstance(spec, list) else [spec]))


def _pictured(rows: pl.DataFrame, run: Run, named: SheetInputs, *, trust: bool) -> list[SheetRow]:
    """The rows with their images. Raises BadInput, before any work, that names what is needed to make some again."""
    needed = lacking(rows, run)
    if not needed:
        return sheet_rows(rows, run, source=_source(run, named, SheetModels()))
    recorded = run.record().get("given") or {}
    inputs = named.completed(recorded)
    if inputs.bank is not None:
        return sheet_rows(rows, run, bank=load_bank(inputs.bank))
    if options := _needed(run, inputs, recorded):
        raise BadInput(
            f"{len(needed)} of {len(rows)} rows are not among the images that the run holds, which are those of its "
            f"findings, and are made again from its models: give {' '.join(options)}."
        )
    references = [inputs.reference] if isinstance(inputs.reference, str) else list(inputs.reference or ())
    specs = [*references, *inputs.classifier]
    models = SheetModels(
        autoencoders.load(inputs.autoencoder or "", trust=trust),
        [classifiers.load(spec, trust=trust) for spec in specs],
    )
    return sheet_rows(rows, run, source=_source(run, inputs, models), models=models)


def _needed(run: Run, inputs: SheetInputs, recorded: Mapping[str, Any]) -> list[str]:
    """The options that must be given, with their values where the run knows them."""
    record = run.record()
    if "bank" in record["data"]:
        return ["--bank FOLDER"]
    missing = [] if inputs.images is not None or _folder_of(run) else ["--images FOLDER"]
    if inputs.autoencoder is None:
        missing.append(f"--autoencoder {recorded.get('autoencoder') or 'AUTOENCODER'}")
    if not inputs.classifier:
        audited = [c["name"] for c in record["models"]["classifiers"] if c["role"] == "audited"]
        missing += [f"--classifier {spec}" for spec in recorded.get("classifier") or [n.upper() for n in audited]]
    if inputs.reference is None and any(c["role"] == "reference" for c in record["models"]["classifiers"]):
        missing.append(f"--reference {recorded.get('reference') or 'HEADS'}")
    return missing


def _source(run: Run, named: SheetInputs, models: SheetModels) -> ImageSource | None:
    """The images given, or the folder that the run names where it is found from here."""
    encoder = models.autoencoder
    size = (named.size if encoder is None else autoencoders.side_of(encoder, asked=named.size)) or DISPLAYED
    bit_depth = run.record().get("inventory", {}).get("bit_depth")
    if named.images is not None:
        return open_images(named.images, size=size, bit_depth=bit_depth)
    folder = _folder_of(run)
    if folder is None:
        return None
    found = ImageFolder(folder, size=size, bit_depth=bit_depth)
    return found if len(found) == run.record()["data"].get("images") else None  # another folder of that name


def _folder_of(run: Run) -> str | None:
    """The folder of images that the run names, where it is found from here."""
    name = run.record()["data"].get("source")
    return str(name) if name and Path(name).is_dir() else None


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
