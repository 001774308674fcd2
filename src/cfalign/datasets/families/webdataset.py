"""WebDataset shards: ``webdataset:PATTERN``.

A shard is a tar in which the members of one sample share a key, their path up to the first dot of the name:
``a/0001.jpg``, ``a/0001.json``, ``a/0001.cls``. Opening reads the headers and labels once and keeps the place of each
image, so that images are read in any order and memory is that of the ids. The image of a sample is the member with one
ending (``0001.jpg``, and not ``0001.seg.png``); without one, that with the ending which most such samples of the shard
have. Every other member is counted.
"""

from __future__ import annotations

import glob
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfalign._errors import BadInput
from cfalign.datasets.aligned_labels import labels_from
from cfalign.datasets.decoding import Span
from cfalign.datasets.encoded_images import EncodedImages
from cfalign.datasets.families.tar_members import Member, Shard
from cfalign.datasets.file_kinds import HEAD, HIDDEN, USUAL, Kind, kind_of
from cfalign.datasets.inventory import Tally
from cfalign.datasets.label_columns import as_text, class_columns
from cfalign.datasets.labels import Labels

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_ENDINGS = re.compile(r"\.(tar(\.\w+)?|tgz)$", re.IGNORECASE)
_LABELS_LIMIT = 1_000_000  # bytes of one .json or .cls
_LABELS = ("json", "cls")
_CLASS = "class"
_FURTHER = "a further image of a sample"
_COLLIDING = (
    "a further image of a sample: its key ends at the first dot of the name, so give each image a key of its own"
)
_NOT_WHOLE = Kind("link", "a link or a sparse file, whose bytes the shard does not hold in one piece", lost=True)
_TOO_LONG = f"labels of more than {_LABELS_LIMIT:,} bytes"
_NO_IMAGE = "of a sample without an image"
_OF_ANOTHER = "labels of a further image of a sample"


@dataclass
class _Sample:
    """The members of one key, by what stands behind it: ``jpg``, ``left.jpg``, ``json``."""

    images: dict[str, Member] = field(default_factory=dict)
    labels: dict[str, Member] = field(default_factory=dict)


class _ShardImages:
    """The place of each image in the shards."""

    def __init__(self, shards: Sequence[Shard], rows: NDArray[np.int64]) -> None:
        self._shards = shards
        self._rows = rows  # [image, (shard, start, length)]

    def __getitem__(self, row: int, /) -> Span:
        shard, start, length = self._rows[row].tolist()
        return Span(self._shards[shard].place, start, length)


def open_webdataset(
    pattern: str, *, size: int | None, bit_depth: int | None = None
) -> tuple[EncodedImages, Labels | None]:
    """Images and labels of shards, e.g. ``shards-{000..003}.tar`` or ``shards/*.tar``; ids are ``SHARD/KEY``.

    Every plain value of a ``.json`` member becomes a column. A ``.cls`` member is a class: two classes become one
    column of 0/1, more become a column each. A compressed shard (gzip, bzip2, xz) is unpacked to a temporary file.

    Raises BadInput for a missing shard, one that is cut short or not a tar, shards without an image, labels that are
    not a JSON object, and a key that occurs twice.
    """
    shards = [Shard(path) for path in _expanded(pattern)]
    tally = Tally()
    ids: list[str] = []
    places: list[tuple[int, int, int]] = []
    cells: dict[str, dict[int, Any]] = {}
    labels = 0
    for number, shard in enumerate(shards):
        for key, image, texts in _chosen(_samples(shard, tally), tally):
            for end, text in texts.items():
                content = shard.bytes_of(text, most=_LABELS_LIMIT)
                for name, value in _values(end.rpartition(".")[2], content, f"{key}.{end} in {shard.path}").items():
                    cells.setdefault(_valid(name), {})[len(ids)] = value
            labels += len(texts)
            ids.append(f"{_ENDINGS.sub('', shard.path.name)}/{key}")
            places.append((number, image.start, image.length))
    _check(ids, tally, pattern)
    source = EncodedImages(
        ids,
        _ShardImages(shards, np.array(places, dtype=np.int64)),
        name=f"webdataset:{Path(pattern).name}",
        where=pattern,
        size=size,
        bit_depth=bit_depth,
        inventory=tally.inventory(len(ids), unit="members", labels=labels),
    )
    return source, labels_from(_columns(cells, len(ids)), ids=ids, where=pattern)


def _check(ids: Sequence[str], tally: Tally, pattern: str) -> None:
    if not ids:
        held = tally.words() or "no member"
        raise BadInput(f"No image in {pattern}: expected members that end in {USUAL}; got {held}.")
    if len(set(ids)) < len(ids):
        raise BadInput(f"The shards of {pattern} must have different names, got one twice; rename them.")


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


def _samples(shard: Shard, tally: Tally) -> dict[str, _Sample]:
    """The samples of a shard by key, in its order; what belongs to none is counted."""
    samples: dict[str, _Sample] = {}
    for member in shard.members():
        folder, _, name = member.name.removeprefix("./").rpartition("/")
        stem, _, end = name.partition(".")
        key, end = f"{folder}/{stem}" if folder else stem, end.lower()
        if not stem:
            tally.add(HIDDEN, member.name)
        elif not member.whole:
            tally.add(_NOT_WHOLE, member.name)
        elif end.rpartition(".")[2] in _LABELS:
            if member.length > _LABELS_LIMIT:
                tally.add(Kind(_what(end), _TOO_LONG, lost=False), member.name)
            else:
                _add(samples.setdefault(key, _Sample()).labels, end, member, shard, key)
        elif (kind := kind_of(name, partial(shard.bytes_of, member, most=HEAD))) is not None:
            tally.add(kind, member.name)
        elif not end:
            tally.add(Kind("no ending", "the name of a member needs an ending behind its key", lost=True), member.name)
        else:
            _add(samples.setdefault(key, _Sample()).images, end, member, shard, key)
    return samples


def _add(members: dict[str, Member], end: str, member: Member, shard: Shard, key: str) -> None:
    if end in members:
        raise BadInput(f"{shard.path} must hold a member once, got two that are called {key}.{end}.")
    members[end] = member


def _what(end: str) -> str:
    """What stands behind a key as a kind: a part that only numbers images is a star."""
    return "".join(f".{part}" if part.isalnum() and part[0].isalpha() else ".*" for part in end.split("."))


def _plain(end: str) -> bool:
    return "." not in end


def _chosen(samples: Mapping[str, _Sample], tally: Tally) -> Iterator[tuple[str, Member, dict[str, Member]]]:
    """Key, image and labels of every sample that has an image; the rest is counted."""
    common = Counter(end for sample in samples.values() if not any(map(_plain, sample.images)) for end in sample.images)
    for key, sample in samples.items():
        plain = [end for end in sample.images if _plain(end)]
        if len(plain) > 1:
            first, second = (sample.images[end].name for end in plain[:2])
            raise BadInput(f"A sample must hold one image, got two with the key {key!r}: {first!r} and {second!r}.")
        ends = plain or sorted(sample.images, key=lambda end: (-common[end], end))
        for end, member in sample.images.items():
            if end != ends[0]:
                tally.add(Kind(_what(end), _FURTHER if plain else _COLLIDING, lost=not plain), member.name)
        prefix = ends[0].rpartition(".")[0] if ends else None
        texts: dict[str, Member] = {}
        for end, member in sample.labels.items():
            if prefix is not None and (_plain(end) or end.rpartition(".")[0] == prefix):
                texts[end] = member
            else:
                tally.add(Kind(_what(end), _NO_IMAGE if prefix is None else _OF_ANOTHER, lost=False), member.name)
        if ends:
            yield key, sample.images[ends[0]], texts


def _valid(name: str) -> str:
    # JSON may hold halves of characters, which no table accepts.
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _values(kind: str, text: bytes, where: str) -> dict[str, Any]:
    try:
        if kind == "cls":
            return {_CLASS: text.decode("utf-8").strip() or None}
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError too
        raise BadInput(f"The labels {where} cannot be read: {error}.") from error
    if not isinstance(values, dict):
        raise BadInput(f"The labels {where} must be a JSON object of names and values, got {type(values).__name__}.")
    return {name: value for name, value in values.items() if name != "image" and not isinstance(value, dict | list)}
