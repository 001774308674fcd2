"""CelebA as its authors publish it: ``celeba:FOLDER``.

The folder holds ``list_attr_celeba.txt`` (attributes as −1/1) and, beside or below it, the images. Two more lists are
read where they are present: ``list_eval_partition.txt`` (train, val or test) and ``identity_CelebA.txt`` (the person).
The lists may be ``.csv`` too. A folder with one table ``labels.csv`` instead (image, attributes, and where known split
and identity) and the images below it is read as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from sys import intern

from cfalign._errors import BadInput
from cfalign.datasets.aligned_labels import labels_of
from cfalign.datasets.image_folder import ImageFolder
from cfalign.datasets.label_files import read_labels
from cfalign.datasets.label_tables import read_table, table_of
from cfalign.datasets.labels import Labels

_ATTRIBUTES, _PARTITION, _IDENTITY = "list_attr_celeba", "list_eval_partition", "identity_CelebA"
_IMAGES = ("img_align_celeba", "img_align_celeba_png", "img_celeba", "images")
_TABLE = "labels.csv"
_SPLITS = {"0": "train", "1": "val", "2": "test"}
_Columns = dict[str, list[str | None]]


def open_celeba(folder: str, *, size: int | None, bit_depth: int | None = None) -> tuple[ImageFolder, Labels]:
    """Images and labels; ids are the paths below the folder of images, the identity is in ``Labels.extra``.

    Raises BadInput for a missing folder or list of attributes, for a damaged list (another number of attributes or rows
    than its head says, a partition other than 0, 1, 2), and when the lists name none of the images.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise BadInput(f"No such folder of CelebA: {root}.")
    lists = _list(root, _ATTRIBUTES, names=None)
    if lists is None and (root / _TABLE).is_file():
        source = _images(root, size=size, bit_depth=bit_depth)
        return source, read_labels(root / _TABLE, ids=source.ids)
    if lists is None:
        raise BadInput(
            f"The folder {root} must hold {_ATTRIBUTES}.txt: celeba:FOLDER expects CelebA's own lists beside its "
            "images (for any other table: --images FOLDER --labels TABLE)."
        )
    file, columns = lists
    parts = _column_of(root, _PARTITION, "partition", columns["image"])
    if parts is not None:
        columns["split"] = [_split(part, root) for part in parts]
    persons = _column_of(root, _IDENTITY, "identity", columns["image"])
    if persons is not None:
        columns["identity"] = persons
    source = _images(root, size=size, bit_depth=bit_depth)
    return source, labels_of(table_of(columns), ids=source.ids, file=file)


def _images(root: Path, *, size: int | None, bit_depth: int | None) -> ImageFolder:
    place = next((root / name for name in _IMAGES if (root / name).is_dir()), root)
    name = f"celeba:{root.name or root.resolve().name}"
    return ImageFolder(place, size=size, name=name, bit_depth=bit_depth)


def _split(part: str | None, root: Path) -> str | None:
    if part is not None and part not in _SPLITS:
        raise BadInput(f"{root / _PARTITION}: a partition must be 0 (train), 1 (val) or 2 (test), got {part!r}.")
    return None if part is None else _SPLITS[part]


def _column_of(root: Path, stem: str, column: str, images: Sequence[str | None]) -> list[str | None] | None:
    """One column of another list, in the order of ``images``; None where there is no such list."""
    found = _list(root, stem, names=["image", column])
    if found is None:
        return None
    of = dict(zip(found[1]["image"], found[1][column], strict=True))
    return [of.get(image) for image in images]


def _list(root: Path, stem: str, *, names: list[str] | None) -> tuple[Path, _Columns] | None:
    """The columns of a list, the first one called ``image``. ``names``: the columns of a list without a header."""
    text, table = root / f"{stem}.txt", root / f"{stem}.csv"
    if text.is_file():
        return text, _read_list(text, names=names)
    if not table.is_file():
        return None
    read = read_table(table)
    header = names or ["image", *read.header[1:]]
    if len(header) != len(read.header):
        raise BadInput(f"{table} must have {len(header)} columns, got {len(read.header)}.")
    return table, {name: column.to_list() for name, column in zip(header, read.columns, strict=True)}


def _read_list(file: Path, *, names: list[str] | None) -> _Columns:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read as text: {error}.") from error
    header, first, count = names, 0, None
    if header is None:
        if len(lines) < 2 or not lines[0].strip().isdigit():
            raise BadInput(f"{file} must begin with the number of images and a line of attribute names.")
        header, first, count = ["image", *lines[1].split()], 2, int(lines[0])
    rows: list[list[str]] = []
    for number, line in enumerate(lines[first:], start=first + 1):
        cells = line.split()
        if cells and len(cells) != len(header):
            raise BadInput(
                f"{file} must have {len(header) - 1} value(s) per image, got {len(cells) - 1} in line {number}."
            )
        if cells:
            rows.append([*map(intern, cells)])  # one object per text, not one per cell
    if not rows or (count is not None and count != len(rows)):
        raise BadInput(f"{file} must list {count or 'at least one'} images, got {len(rows)}; it may be cut short.")
    return {name: list(cells) for name, cells in zip(header, zip(*rows, strict=True), strict=True)}
