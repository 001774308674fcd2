"""The published model files of the paper, downloaded into the user's cache on request only.

A download that was interrupted goes on where it stopped, if the server allows. A file is checked by its published
SHA-256, or else by the one that it had when it was first fetched, which ``sha256.json`` beside the files records.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pooch
import requests

from cfalign._errors import BadInput, StorageFailed, nearest
from cfalign._models.http import session

_LOG = logging.getLogger(__name__)
BASE = "https://github.com/ieee8023/latentshift/releases/download/weights/"
"""Release assets of the authors' repository."""
ENVIRONMENT = "CFALIGN_CACHE"
_PINS = "sha256.json"
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
DownloadProgress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes here, and the bytes in all (0 where the server does not say)."""


@dataclass(frozen=True)
class Asset:
    """One published file."""

    file: str
    size: int | None = None
    """Bytes, where the publisher states them."""
    sha256: str | None = None
    """Where the publisher states it."""


@dataclass(frozen=True)
class PublishedModel:
    """A model of the paper."""

    name: str
    what: str
    assets: tuple[Asset, ...]
    origin: str
    """Who made it, by name and address."""
    licence: str = "CC BY-NC 4.0 (the repository's; it states none of its own for the weights)"
    source: str = "github.com/ieee8023/latentshift, release `weights`"


PUBLISHED = (
    PublishedModel(
        "faceshq",
        "VQ-GAN of faces, 256 px: the paper's autoencoder",
        (Asset("2020-11-13T21-41-45_faceshq.pth"), Asset("2020-11-13T21-41-45_faceshq.yaml")),
        "Esser, Rombach, Ommer: Taming Transformers (github.com/CompVis/taming-transformers; its code is MIT)",
    ),
    PublishedModel(
        "branched-tiny",
        "40 CelebA attributes, 224 px: the paper's classifier",
        (Asset("BranchedTiny.ckpt"),),
        "Vandenhende et al.: Branched Multi-Task Networks (arxiv.org/abs/1904.02920)",
    ),
    *(
        PublishedModel(
            f"waterbirds-{kind}",
            what,
            (Asset(f"waterbirds_{kind}.pth"),),
            "the authors of the paper (arxiv.org/abs/2312.02186)",
        )
        for kind, what in (
            ("baseline", "waterbird or landbird, trained plainly"),
            ("place", "water or land in the background"),
            ("withdro", "waterbird or landbird, trained with GroupDRO"),
        )
    ),
    PublishedModel(
        "cub2011-deit-tiny",
        "200 species of birds, 224 px (TorchScript)",
        (Asset("cub2011-deit-tiny.zip"),),
        "Sharan S. Menon (kaggle.com/code/sharansmenon/pytorch-cubbirds200-classification)",
    ),
)


def published(name: str) -> PublishedModel:
    """One model by name. Raises BadInput, with the nearest names, for an unknown one."""
    found = next((model for model in PUBLISHED if model.name == name), None)
    if found is None:
        raise BadInput(f"No published model {name!r}; {nearest(name, [model.name for model in PUBLISHED])}.")
    return found


def cache_folder() -> Path:
    """Where files go: ``$CFALIGN_CACHE``, else ``~/.cache/cfalign``."""
    given = os.environ.get(ENVIRONMENT)
    return Path(given).expanduser() if given else Path.home() / ".cache" / "cfalign"


def pinned(asset: Asset, *, folder: Path | None = None) -> str | None:
    """The SHA-256 that the file must have; None before it is first fetched."""
    return asset.sha256 or _pins(folder or cache_folder()).get(asset.file)


def located(name: str, *, folder: Path | None = None) -> tuple[Path, ...]:
    """The files of a model that was fetched before; nothing is downloaded. Raises BadInput, saying how to fetch it."""
    model, place = published(name), folder or cache_folder()
    missing = [asset.file for asset in model.assets if not (place / asset.file).is_file()]
    if missing:
        raise BadInput(
            f"{', '.join(missing)} is not in {place}; `cfalign models fetch {name}` brings it, or take it from "
            f"{model.source} and put it there."
        )
    return tuple(place / asset.file for asset in model.assets)


def fetch(
    model: PublishedModel, *, folder: Path | None = None, base: str = BASE, progress: DownloadProgress = lambda *_: None
) -> tuple[Path, ...]:
    """The model's files, downloaded where they are not there yet, checked in any case.

    Raises BadInput when the server cannot be reached or refuses (with the address and the folder to put the file in),
    when the answer was cut off (what came is kept, and the next call goes on), and when a file is not the one
    expected, and StorageFailed when the disk refuses. A busy server is asked again.
    """
    place = folder or cache_folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        return tuple(_fetched(asset, place, base + asset.file, progress) for asset in model.assets)
    except OSError as error:
        raise StorageFailed(f"Could not write to {place}: {error.strerror or error}.") from error


def _fetched(asset: Asset, place: Path, url: str, progress: DownloadProgress) -> Path:
    target, known = place / asset.file, pinned(asset, folder=place)
    if target.is_file():
        found = pooch.file_hash(str(target))
        if known not in (None, found):
            raise BadInput(
                f"{target} is not the file that was {_since(asset)}: its SHA-256 is {found}, expected {known}; "
                "remove it to fetch it again."
            )
    else:
        pooch.get_logger().setLevel(logging.WARNING)  # it tells of every download on stderr

        def download(url: str, output: str, pup: Any) -> None:
            _resumed(url, place / f"{asset.file}.part", progress)
            (place / f"{asset.file}.part").replace(output)

        try:
            pooch.retrieve(url, known, fname=asset.file, path=place, downloader=download)
        except ValueError as error:
            if isinstance(error, BadInput):
                raise
            raise BadInput(
                f"{url} is not the file that was {_since(asset)}: its SHA-256 is not {known}; nothing was kept."
            ) from error
        found = pooch.file_hash(str(target))
        _LOG.info("%s is fetched to %s.", url, target)
    if known is None:
        _write_pins(place, {**_pins(place), asset.file: found})
    return target


def _since(asset: Asset) -> str:
    return "published" if asset.sha256 else "first fetched"


def _resumed(url: str, part: Path, progress: DownloadProgress) -> None:
    """Download into ``part``, going on after the bytes that it holds. Raises BadInput as ``fetch``."""
    mark = part.with_name(f"{part.name}.etag")  # which version of the file the bytes are of
    start = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-"}
        if mark.is_file():
            headers["If-Range"] = mark.read_text(encoding="utf-8")
    try:
        with session() as asking, asking.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code == 416:  # nothing after these bytes: whole, or of another file
                whole = answer.headers.get("Content-Range", "").rpartition("/")[2] == str(start)
                if not whole:
                    part.unlink()
            else:
                answer.raise_for_status()
                whole = _received(answer, part, mark, start, progress)
    except requests.RequestException as error:
        raise BadInput(
            f"{url} cannot be fetched ({_short(error)}); with another machine or browser, put it into {part.parent} as "
            f"{part.stem}."
        ) from error
    if not whole:
        raise BadInput(f"The answer of {url} was cut off; what came is kept, give the same command again to go on.")
    mark.unlink(missing_ok=True)


def _received(answer: requests.Response, part: Path, mark: Path, start: int, progress: DownloadProgress) -> bool:
    """Write the answer to ``part``; whether it is whole."""
    begin = start if answer.status_code == 206 else 0  # a server without ranges begins anew
    if etag := answer.headers.get("ETag"):
        mark.write_text(etag, encoding="utf-8")
    length = answer.headers.get("Content-Length")
    total = begin + int(length) if length else 0
    with part.open("ab" if begin else "wb") as file:
        try:
            _copy(answer, file, part.name.removesuffix(".part"), begin, total, progress)
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ConnectionError):
            return False
    return not total or part.stat().st_size == total


def _copy(
    answer: requests.Response, file: IO[bytes], name: str, done: int, total: int, progress: DownloadProgress
) -> None:
    progress(name, done, total)
    for chunk in answer.iter_content(_CHUNK):
        file.write(chunk)
        done += len(chunk)
        progress(name, done, total)


def _short(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "the server does not answer"
    if isinstance(error, requests.ConnectionError):
        return "no connection to the server"
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _pins(place: Path) -> dict[str, str]:
    file = place / _PINS
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} is damaged ({error}); remove it to pin the files anew.") from error
    if not isinstance(content, dict):
        raise BadInput(f"{file} is damaged (no JSON object); remove it to pin the files anew.")
    return {str(name): str(value) for name, value in content.items()}


def _write_pins(place: Path, pins: Mapping[str, str]) -> None:
    temporary = place / f".{_PINS}.part"
    try:
        temporary.write_text(json.dumps(dict(sorted(pins.items())), indent=1) + "\n", encoding="utf-8")
        temporary.replace(place / _PINS)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
