"""WebDataset shards: ``webdataset:PATTERN``.

A shard is an uncompressed tar in which the members of one image share a key, their path up to the first dot of the
name: ``a/0001.jpg``, ``a/0001.json``, ``a/0001.cls``. Opening reads the headers and labels once and keeps the place of
each image, so that images are read in any order and memory is that of the ids.
"""

from __future__ import annotations

import glob
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfalign._errors import BadInput
from cfalign.datasets.decoding import Span
from cfalign.datasets.encoded_images import EncodedImages
from cfalign.datasets.file_kinds import ALWAYS as EXTENSIONS
from cfalign.datasets.label_columns import as_text, class_columns, labels_from
from cfalign.datasets.labels import Labels

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_LABELS_LIMIT = 1_000_000  # bytes of one .json or .cls
_CLASS = "class"


class _ShardImages:
    """The place of each image in the shards."""

    def __init__(self, shards: tuple[Path, ...], rows: NDArray[np.int64]) -> None:
        self._shards = shards
        self._rows = rows  # [image, (shard, start, length)]

    def __getitem__(self, row: int, /) -> Span:
        shard, start, length = self._rows[row].tolist()
        return Span(self._shards[shard], start, length)


def open_webdataset(
    pattern: str, *, size: int | None, bit_depth: int | None = None
) -> tuple[EncodedImages, Labels | None]:
    """Images and labels of shards, e.g. ``shards-{000..003}.tar`` or ``shards/*.tar``; ids are ``SHARD/KEY``.

    Every plain value of a ``.json`` member becomes a column. A ``.cls`` member is a class: two classes become one
    column of 0/1, more become a column each. Raises BadInput for a missing shard, a shard that is compressed, cut short
    or not a tar, shards without an image, labels that are not a JSON object, and a key that occurs twice.
    """
    shards = _expanded(pattern)
    ids: list[str] = []
    places: list[tuple[int, int, int]] = []
    cells: dict[str, dict[int, Any]] = {}
    for number, shard in enumerate(shards):
        for key, (start, length, values) in _read_shard(shard).items():
            for name, value in values.items():
                cells.setdefault(name, {})[len(ids)] = value
            ids.append(f"{shard.stem}/{key}")
            places.append((number, start, length))
    if not ids:
        raise BadInput(f"No image in {pattern}: expected members that end in {', '.join(EXTENSIONS)}.")
    if len(set(ids)) < len(ids):
        raise BadInput(f"The shards of {pattern} must have different names, got one twice; rename them.")
    name = f"webdataset:{Path(pattern).name}"
    source = EncodedImages(
        ids, _ShardImages(shards, np.array(places, dtype=np.int64)), name=name, where=pattern, size=size
    )
    return source, labels_from(_columns(cells, len(ids)), ids=ids, where=pattern)


def _columns(cells: Mapping[str, Mapping[int, Any]], count: int) -> dict[str, list[str | None]]:
    columns: dict[str, list[str | None]] = {}
    for name, values in cells.items():
        texts = [as_text(values.get(i)) for i in range(count)]
        if name != _CLASS:
            columns[name] = texts
            continue
        known = sorted({t for t in texts if t is not None}, key=lambda t: (len(t), t))
        known = ["0", "1"] if set(known) <= {"0", "1"} else known
        place = {text: i for i, text in enumerate(known)}
        columns |= class_columns(_CLASS, [None if t is None else [place[t]] for t in texts], known)
    return columns


def _expanded(pattern: str) -> tuple[Path, ...]:
    found: list[Path] = []
    for name in _braces(str(Path(pattern).expanduser())):
        paths = sorted(glob.glob(name)) if glob.has_magic(name) else [name]
        if not paths or not Path(paths[0]).is_file():
            raise BadInput(f"No such shard: {name}; webdataset:PATTERN names tar files, e.g. shards-{{000..003}}.tar.")
        found += map(Path, paths)
    return tuple(found)


def _braces(pattern: str) -> Iterator[str]:
    match = _BRACES.search(pattern)
    if match is None:
        yield pattern
        return
    inside = match.group(1)
    numbers = _RANGE.fullmatch(inside)
    if numbers is None:
        choices = inside.split(",")
    else:
        first, last = numbers.groups()
        choices = [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    for choice in choices:
        yield from _braces(pattern[: match.start()] + choice + pattern[match.end() :])


def _read_shard(shard: Path) -> dict[str, tuple[int, int, dict[str, Any]]]:
    """Start, length and labels of every image by key, in the shard's order."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or the list grows with the shard
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                stem, _, kind = name.partition(".")
                key, kind = f"{folder}/{stem}" if folder else stem, kind.lower()
                if not member.isreg() or not stem:
                    continue
                if f".{kind}" in EXTENSIONS:
                    if key in images:
                        raise BadInput(f"{shard} must hold one image per key, got two with the key {key!r}.")
                    images[key] = (member.offset_data, member.size)
                elif kind in ("json", "cls") and member.size <= _LABELS_LIMIT:
                    stream = tar.extractfile(member)
                    text = b"" if stream is None else stream.read()
                    labels.setdefault(key, {}).update(_values(kind, text, f"{key}.{kind} in {shard}"))
    except (tarfile.TarError, EOFError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(
            f"The shard {shard} cannot be read as an uncompressed tar: {reason} (unpack a compressed one first)."
        ) from error
    return {key: (*place, labels.get(key, {})) for key, place in images.items()}


def _values(kind: str, text: bytes, where: str) -> dict[str, Any]:
    try:
        if kind == "cls":
            return {_CLASS: text.decode("utf-8").strip() or None}
        values = json.loads(text)
    except ValueError as error:  # UnicodeDecodeError is one too
        raise BadInput(f"The labels {where} cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise BadInput(f"The labels {where} must be a JSON object of names and values, got {type(values).__name__}.")
    return {name: value for name, value in values.items() if name != "image" and not isinstance(value, dict | list)}
