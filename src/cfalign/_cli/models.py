"""``cfalign models``: the published model files of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cfalign._cli.flags import Json
from cfalign._cli.output import print_json, print_table, progress, say
from cfalign._models import downloads
from cfalign._models.downloads import PUBLISHED, PublishedModel

app = typer.Typer(
    no_args_is_help=True, help="The published models of the paper; nothing is downloaded but by `models fetch`."
)
Name = Annotated[str, typer.Argument(help="A name from `cfalign models list`.", show_default=False)]
_MEGABYTE = 1_000_000


@app.command(name="list")
def list_models(as_json: Json = False) -> None:
    """What is published, its licence, and what of it is in the cache."""
    described = [_described(model) for model in PUBLISHED]
    if as_json:
        print_json({"folder": str(downloads.cache_folder()), "models": described})
        return
    table = Table(box=SIMPLE_HEAD)
    for name in ("model", "what it is", "size", "here"):
        table.add_column(name, overflow="fold")
    for model, found in zip(PUBLISHED, described, strict=True):
        table.add_row(model.name, model.what, _size(found["files"]), "yes" if found["here"] else "no")
    print_table(table)
    say(f"Licence: {PUBLISHED[0].licence}.")
    say(f"Folder: {downloads.cache_folder()} (the environment variable {downloads.ENVIRONMENT} names another).")


@app.command()
def info(name: Name, as_json: Json = False) -> None:
    """Files, origin, licence, address and SHA-256 of one model."""
    found = _described(downloads.published(name))
    if as_json:
        print_json(found)
        return
    for key in ("name", "what", "origin", "licence", "source"):
        say(f"{key + ':':<10}{found[key]}")
    for file in found["files"]:
        say(f"{'file:':<10}{file['path']} ({'here' if file['here'] else 'not here'}, {_size([file])})")
        say(f"{'':<10}from {file['address']}")
        say(f"{'':<10}SHA-256 {file['sha256'] or 'not published; pinned when it is first fetched'}")


@app.command()
def fetch(
    name: Annotated[list[str], typer.Argument(help="Names from `cfalign models list`.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Download a model into the cache and check it; a download that was stopped goes on."""
    models = [downloads.published(n) for n in dict.fromkeys(name)]
    paths: dict[str, list[Path]] = {}
    with progress() as bars:

        def show(file: str, done: int, total: int) -> None:
            bars(f"{file}, kB", -(-done // 1000), -(-max(total, done) // 1000) or 1)

        for model in models:
            paths[model.name] = list(downloads.fetch(model, progress=show))
    if as_json:
        print_json({"models": [_described(model) for model in models]})
        return
    for model in models:
        for path, asset in zip(paths[model.name], model.assets, strict=True):
            say(f"{model.name}: {path}, SHA-256 {downloads.pinned(asset)}")


def _described(model: PublishedModel) -> dict[str, Any]:
    folder = downloads.cache_folder()
    files = [
        {
            "file": asset.file,
            "path": str(folder / asset.file),
            "address": downloads.BASE + asset.file,
            "size": (folder / asset.file).stat().st_size if (folder / asset.file).is_file() else asset.size,
            "sha256": downloads.pinned(asset, folder=folder),
            "here": (folder / asset.file).is_file(),
        }
        for asset in model.assets
    ]
    return {
        "name": model.name,
        "what": model.what,
        "origin": model.origin,
        "licence": model.licence,
        "source": model.source,
        "here": all(file["here"] for file in files),
        "files": files,
    }


def _size(files: list[dict[str, Any]]) -> str:
    sizes = [file["size"] for file in files]
    return "size not published" if None in sizes else f"{sum(sizes) / _MEGABYTE:.1f} MB"
