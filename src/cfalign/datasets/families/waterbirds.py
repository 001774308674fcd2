"""Waterbirds as its authors publish it: ``waterbirds:FOLDER``.

``metadata.csv`` in the folder names every image (``img_filename``, relative to the folder), the bird (``y``, 1 for a
waterbird), the background (``place``, 1 for water) and the part (``split``: 0 train, 1 val, 2 test).
"""

from __future__ import annotations

from pathlib import Path

from cfalign._errors import BadInput
from cfalign.datasets.aligned_labels import labels_of
from cfalign.datasets.image_folder import ImageFolder
from cfalign.datasets.label_tables import read_table, table_of
from cfalign.datasets.labels import Labels

_NAMES = {"img_filename": "image", "y": "waterbird", "place": "water_background", "split": "split"}
_SPLITS = {"0": "train", "1": "val", "2": "test"}


def open_waterbirds(folder: str, *, size: int | None, bit_depth: int | None = None) -> tuple[ImageFolder, Labels]:
    """Images and the labels ``waterbird`` and ``water_background``; ids are the paths below the folder.

    Raises BadInput for a missing folder, ``metadata.csv`` or column, for a split other than 0, 1, 2, and when the table
    names none of the images.
    """
    root = Path(folder).expanduser()
    file = root / "metadata.csv"
    if not root.is_dir():
        raise BadInput(f"No such folder of Waterbirds: {root}.")
    if not file.is_file():
        raise BadInput(f"The folder {root} must hold metadata.csv beside the images, as waterbirds:FOLDER expects.")
    table = read_table(file)
    missing = [name for name in _NAMES if name not in table.header]
    if missing:
        raise BadInput(f"{file} must have the columns {', '.join(_NAMES)}; it lacks {', '.join(missing)}.")
    columns: dict[str, list[str | None]] = {
        new: table.columns[table.header.index(old)].to_list() for old, new in _NAMES.items()
    }
    unknown = [part for part in columns["split"] if part is not None and part not in _SPLITS]
    if unknown:
        raise BadInput(f"{file}: a split must be 0 (train), 1 (val) or 2 (test), got {unknown[0]!r}.")
    columns["split"] = [None if part is None else _SPLITS[part] for part in columns["split"]]
    name = f"waterbirds:{root.name or root.resolve().name}"
    source = ImageFolder(root, size=size, name=name, bit_depth=bit_depth)
    return source, labels_of(table_of(columns), ids=source.ids, file=file)
