"""Data sets of the Hugging Face package `datasets` (extra ``data``): ``hf:NAME_OR_FOLDER[:SPLIT]``.

A folder is one that ``save_to_disk`` wrote, or any that ``load_dataset`` reads (images in folders, Parquet); its rows
stay on disk. One file of Parquet will do. The module ``image_columns`` says which column is taken. Any other name is
one of the hub: it is streamed once, and the encoded images are kept in a temporary file, so that each crosses the
network once and memory is that of the labels. ``SPLIT`` may end in ``[10:200]``, a range of rows; of a stream only
these are read. Without a split all splits are taken.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Lock
from typing import Any

from cfalign._errors import BadInput, nearest
from cfalign._models.extras import imported
from cfalign.datasets.aligned_labels import labels_from
from cfalign.datasets.decoding import Content, Span
from cfalign.datasets.encoded_images import Contents, EncodedImages
from cfalign.datasets.families.image_columns import ImageColumn, image_column, image_of
from cfalign.datasets.file_kinds import ENDINGS, ending
from cfalign.datasets.inventory import Inventory, LeftOut
from cfalign.datasets.label_columns import as_text, class_columns
from cfalign.datasets.labels import Labels
from cfalign.datasets.unreadable import Unreadable

EXTRA = "data"
_SPEC = re.compile(r"(.+?)(?::([\w.-]+)(?:\[(\d*):(\d*)\])?)?")
_SPLITS = {"validation": "val", "valid": "val", "dev": "val", "training": "train", "testing": "test"}
_BATCH = 256
_TABLES = (".parquet", ".pq")


def open_hf(spec: str, *, size: int | None, bit_depth: int | None = None) -> tuple[EncodedImages, Labels | None]:
    """Images and labels; ids are ``SPLIT/ROW``.

    A column of classes becomes a 0/1 column per class (``label_columns`` describes how), a column of 0/1 or true/false
    becomes an attribute, and short texts are kept in ``Labels.extra``. Raises BadInput without the extra ``data``, for
    an unknown data set or split, and for a data set without a column of images.
    """
    package = imported("datasets", extra=EXTRA)
    match = None if Path(spec).expanduser().is_dir() else _SPEC.fullmatch(spec)
    name, split, *bounds = (spec, None, None, None) if match is None else match.groups()
    start, stop = (int(bound) if bound else None for bound in bounds)
    folder = Path(name).expanduser()
    local = folder.is_dir() or (folder.is_file() and folder.suffix.lower() in _TABLES)
    if not local and name.startswith(("/", ".", "~")):
        raise BadInput(f"No such folder: {folder}; expected hf:FOLDER, or hf:NAME of a data set on the hub.")
    parts = _chosen(_loaded(package, folder if local else name), split, (start, stop), name)
    title = f"hf:{folder.name or folder.resolve().name}" if local else f"hf:{name}"
    if not local:
        return read_parts(package, parts, name=title, size=size, bit_depth=bit_depth)
    place = folder if folder.is_dir() else folder.parent
    left_out = _unlisted(folder, parts) if split is None and folder.is_dir() else ()
    return read_parts(package, parts, name=title, size=size, bit_depth=bit_depth, folder=place, left_out=left_out)


def read_parts(
    package: Any,
    parts: Mapping[str, Any],
    *,
    name: str,
    size: int | None,
    bit_depth: int | None = None,
    folder: Path | None = None,
    left_out: tuple[LeftOut, ...] = (),
) -> tuple[EncodedImages, Labels | None]:
    """Images and labels of open data sets, by split: streams (``IterableDataset``) or stored data sets.

    ``folder``: where files lie that cells name; ``left_out``: what is in no row.
    """
    column = image_column(package, next(iter(parts.values())), name)
    image, plain = column.name, _undecoded(package, parts, column, name)
    kinds = {other: kind for other, kind in next(iter(plain.values())).features.items() if other != image}
    reader = _LabelReader(package, kinds)
    counts: dict[str, int] = {}
    contents: Contents
    if isinstance(next(iter(plain.values())), package.IterableDataset):
        spool = _StreamedImages()
        for split, part in plain.items():
            counts[split] = 0
            for batch in part.iter(batch_size=_BATCH):
                counts[split] += spool.take(batch[image])
                reader.take(batch)
        contents = spool
    else:
        for split, part in plain.items():
            counts[split] = len(part)
            for batch in part.select_columns(list(kinds)).iter(batch_size=_BATCH) if kinds else ():
                reader.take(batch)
        contents = _StoredImages([part.select_columns([image]) for part in plain.values()], image, folder)
    ids = [f"{split}/{row}" for split, count in counts.items() for row in range(count)]
    if not ids:
        raise BadInput(f"The data set {name} must have at least one row, got none.")
    rows = len(ids)
    given = rows + sum(kind.count for kind in left_out)
    inventory = Inventory(given, rows, left_out=left_out, unit="rows", remarks=column.remarks(name))
    source = EncodedImages(ids, contents, name=name, size=size, bit_depth=bit_depth, inventory=inventory)
    return source, labels_from(reader.columns(counts), ids=ids, where=name)


def _undecoded(package: Any, parts: Mapping[str, Any], column: ImageColumn, name: str) -> dict[str, Any]:
    """The parts with their images as they are stored. Raises BadInput for a part that lacks the column."""
    for split, part in parts.items():
        if column.name not in (part.features or ()):
            raise BadInput(f"Every split of {name} must have the column {column.name!r}; {split!r} lacks it.")
    if not column.typed:
        return dict(parts)
    return {split: part.cast_column(column.name, package.Image(decode=False)) for split, part in parts.items()}


def _unlisted(folder: Path, parts: Mapping[str, Any]) -> tuple[LeftOut, ...]:
    """The images of a folder of images that became no rows: the package reads fewer kinds."""
    if any(getattr(part, "builder_name", None) != "imagefolder" for part in parts.values()):
        return ()
    rows = sum(len(part) for part in parts.values())
    ends = Counter(
        ending(name)
        for _, _, found in os.walk(folder)
        for name in found
        if ending(name) in ENDINGS and not name.startswith(".")
    )
    count = ends.total() - rows
    if count <= 0:
        return ()
    reason = f"in no row; the folder has {', '.join(sorted(ends))}, of which the package datasets reads some"
    return (LeftOut("image file", f"{reason}: give it without hf:", count, lost=True, examples=()),)


class _StoredImages:
    """Encoded images of data sets on disk, one data set after the other."""

    def __init__(self, parts: Sequence[Any], image: str, folder: Path | None) -> None:
        self._parts, self._image, self._folder = parts, image, folder
        self._ends = list(accumulate(len(part) for part in parts))
        self._lock = Lock()

    def __getitem__(self, row: int, /) -> Content:
        at = bisect_right(self._ends, row)
        with self._lock:
            cell = self._parts[at][row - (self._ends[at - 1] if at else 0)][self._image]
        return image_of(cell, folder=self._folder)


class _StreamedImages:
    """Encoded images of a stream, in a temporary file that is removed with this object."""

    def __init__(self) -> None:
        self._file = NamedTemporaryFile(prefix="cfalign-", suffix=".images")  # noqa: SIM115 (lives as long as this)
        self._places: list[tuple[int, int]] = []
        self._end = 0

    def take(self, cells: Sequence[Any]) -> int:
        for cell in cells:
            try:
                content = image_of(cell, folder=None)
                encoded = content if isinstance(content, bytes) else Path(str(content)).read_bytes()
            except (Unreadable, OSError):
                encoded = b""
            self._places.append((self._end, len(encoded)))
            self._end += self._file.write(encoded)
        self._file.flush()
        return len(cells)

    def __getitem__(self, row: int, /) -> Span:
        return Span(Path(self._file.name), *self._places[row])


class _LabelReader:
    """Collects the columns of labels, batch by batch."""

    def __init__(self, package: Any, kinds: Mapping[str, Any]) -> None:
        self._classes = {c: names for c, kind in kinds.items() if (names := _class_names(package, kind)) is not None}
        self._plain = [c for c, kind in kinds.items() if isinstance(kind, package.Value)]
        self._cells: dict[str, list[Any]] = {c: [] for c in (*self._classes, *self._plain)}

    def take(self, batch: Mapping[str, Sequence[Any]]) -> None:
        for column, cells in self._cells.items():
            read = _class_list if column in self._classes else as_text
            cells += map(read, batch[column])

    def columns(self, counts: Mapping[str, int]) -> dict[str, list[str | None]]:
        """The columns of a table; several splits become its column ``split``."""
        found: dict[str, list[str | None]] = {}
        for column, names in self._classes.items():
            made = class_columns(column, self._cells[column], names)
            clash = found.keys() & made.keys()
            found |= {f"{column}_{name}" if name in clash else name: cells for name, cells in made.items()}
        found |= {column: self._cells[column] for column in self._plain}
        parts: list[str | None] = [_SPLITS.get(split, split) for split, count in counts.items() for _ in range(count)]
        return found if "split" in found or len(counts) == 1 else {**found, "split": parts}


def _class_names(package: Any, kind: Any) -> list[str] | None:
    """Names of the classes of a column of classes, or of lists of classes."""
    inner = getattr(kind, "feature", kind)
    return list(inner.names) if isinstance(inner, package.ClassLabel) else None


def _class_list(value: Any) -> list[int] | None:
    found = value if isinstance(value, list) else [value]
    known = [int(i) for i in found if i is not None and int(i) >= 0]  # −1 is a missing label
    return known if known or isinstance(value, list) else None


def _loaded(package: Any, name: Path | str) -> Any:
    """A data set, or several by split. Raises BadInput with the first line of whatever the library raises."""
    try:
        if isinstance(name, str):
            return package.load_dataset(name, streaming=True)
        if (name / "dataset_dict.json").is_file() or (name / "dataset_info.json").is_file():
            return package.load_from_disk(str(name))
        if name.is_file():
            return package.load_dataset("parquet", data_files=str(name))
        return package.load_dataset(str(name))
    except Exception as error:  # the library answers with many types
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        where = "the folder" if isinstance(name, Path) else "no folder here, and on the hub"
        raise BadInput(f"The data set {str(name)!r} ({where}) cannot be opened: {reason}.") from error


def _chosen(loaded: Any, split: str | None, rows: tuple[int | None, int | None], name: str) -> dict[str, Any]:
    """The parts that are asked for, by split."""
    parts = dict(loaded) if isinstance(loaded, dict) else {str(getattr(loaded, "split", None) or "all"): loaded}
    if split is not None and split not in parts:
        raise BadInput(f"The data set {name!r} has no split {split!r}; {nearest(split, parts)}.")
    wanted = parts if split is None else {split: parts[split]}
    start, stop = rows
    if start is None and stop is None:
        return wanted
    return {part: _cut(data, start or 0, stop) for part, data in wanted.items()}


def _cut(data: Any, start: int, stop: int | None) -> Any:
    if hasattr(data, "select"):
        return data.select(range(min(start, len(data)), len(data) if stop is None else min(stop, len(data))))
    rest = data.skip(start) if start else data
    return rest if stop is None else rest.take(max(stop - start, 0))
