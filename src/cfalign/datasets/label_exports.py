"""Labels as annotation tools export them: COCO, FiftyOne and folders of classes, recognised by their content.

Each becomes a table whose first column names the images. Of objects in images an attribute says whether the category
is in the image: 0 where the export lists the image without such an object, missing where it does not list the image.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cfalign._errors import BadInput
from cfalign.datasets.file_kinds import ENDINGS
from cfalign.datasets.label_columns import as_text, class_columns
from cfalign.datasets.label_tables import Table, table_of
from cfalign.datasets.linked_folders import FolderWalk
from cfalign.datasets.yolo_labels import is_yolo, read_yolo, split_of

Found = list[list[int] | None]
_KINDS = "COCO (images, annotations, categories), FiftyOne (labels or samples), or a list of records"


def read_export(path: Path) -> Table:
    """The table in a JSON file or a folder.

    Raises BadInput for a folder without anything that is understood, or with several files of labels, and for a file
    that is damaged or of another form.
    """
    if path.is_dir():
        return _read_folder(path)
    if is_yolo(path):
        return read_yolo(path)
    return _read_json(path)


def _read_folder(folder: Path) -> Table:
    if is_yolo(folder):
        return read_yolo(folder)
    files = sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")])
    known = [file for file in files if file.name in ("labels.json", "samples.json")] or files
    if len(known) > 1:
        names = ", ".join(str(file.relative_to(folder)) for file in known[:4])
        raise BadInput(f"The folder {folder} holds several files of labels; name one of them: {names}.")
    if known:
        return _read_json(known[0])
    return _read_class_folders(folder)


def _read_json(file: Path) -> Table:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"The labels {file} cannot be read as JSON: {error}.") from error
    try:
        table = _table_in(content, file)
    except (TypeError, AttributeError, IndexError, KeyError, UnicodeError) as error:
        raise BadInput(f"The labels {file} are damaged: expected {_KINDS} ({error}).") from error
    if table is None:
        raise BadInput(f"The labels {file} must be {_KINDS}; got something else.")
    if table.rows == 0:
        raise BadInput(f"The labels {file} must list an image, got none.")
    return table


def _table_in(content: Any, file: Path) -> Table | None:
    if isinstance(content, list) and content and all(isinstance(record, dict) for record in content):
        return _records(content)
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("images"), list) and "annotations" in content:
        return _coco(content, file)
    if isinstance(content.get("labels"), dict):
        return _fiftyone_labels(content, file)
    if isinstance(content.get("samples"), list):
        return _fiftyone_samples(content["samples"], file)
    return None


def _records(records: Sequence[Mapping[str, Any]]) -> Table:
    """A list of objects: a table with a column for every name."""
    names = dict.fromkeys(name for record in records for name in record)
    nested = [n for n in names if any(isinstance(record.get(n), dict | list) for record in records)]
    columns = {name: [_plain(record.get(name)) for record in records] for name in names if name not in nested}
    return table_of(
        columns or {"": [None] * len(records)},
        form="JSON records",
        unusable=dict.fromkeys(nested, "holds lists or objects, not plain values"),
    )


def _plain(value: Any) -> str | None:
    return value if isinstance(value, str) else as_text(value)


def _coco(content: Mapping[str, Any], file: Path) -> Table:
    categories = {one["id"]: str(one.get("name") or f"category_{one['id']}") for one in content.get("categories") or ()}
    if not categories:
        raise BadInput(f"The labels {file} have images and annotations as COCO has them, but no categories.")
    place = {key: i for i, key in enumerate(categories)}
    images = {one["id"]: str(one["file_name"]) for one in content["images"]}
    if len(images) < len(content["images"]):
        raise BadInput(f"The labels {file} must give every image another id; got one twice.")
    found: dict[Any, set[int]] = {key: set() for key in images}
    lost = 0
    for one in content["annotations"]:
        image, category = one.get("image_id"), one.get("category_id")
        if image in found and category in place:
            found[image].add(place[category])
        else:
            lost += 1
    notes = [f"Read as COCO: {_count(len(content['annotations']), 'annotation')} of {_count(len(images), 'image')}."]
    if lost:
        notes.append(f"{_count(lost, 'annotation')} not read: of an image or category that the file does not list.")
    columns = presence(list(categories.values()), list(found.values()))
    return _certain(list(images.values()), columns, form="COCO annotations", notes=notes)


def _fiftyone_labels(content: Mapping[str, Any], file: Path) -> Table:
    """FiftyOne's image classification and detection: labels by the name of the image without its extension."""
    labels: Mapping[str, Any] = content["labels"]
    names: list[str] = [str(name) for name in content.get("classes") or ()]
    found: Found = []
    objects = any(isinstance(value, list) for value in labels.values())
    for image, value in labels.items():
        values = value if isinstance(value, list) else [] if value is None else [value]
        known = [_class_of(one, names, f"{image!r} in {file}") for one in values]
        found.append(None if value is None else [i for i in known if i is not None])
    notes = [f"Read as FiftyOne: {_count(len(labels), 'image')}, {_count(len(names), 'class')}."]
    columns = presence(names, found) if objects else class_columns("class", found, names)
    return _certain(list(labels), columns, form="FiftyOne labels", notes=notes)


def _class_of(value: Any, names: list[str], where: str) -> int | None:
    """The position of a class among ``names``, which grows where a label is a new text."""
    label = value.get("label") if isinstance(value, dict) else value
    if isinstance(label, bool) or not isinstance(label, int | str | None):
        raise BadInput(f"The label of {where} must be a class or its number, got {label!r}.")
    if isinstance(label, int):
        if not 0 <= label < len(names):
            raise BadInput(f"The label of {where} must be the number of one of {len(names)} classes, got {label}.")
        return label
    if label is None:
        return None
    if label not in names:
        names.append(label)
    return names.index(label)


def _fiftyone_samples(samples: Sequence[Mapping[str, Any]], file: Path) -> Table:
    """FiftyOne's own form: samples with fields of labels."""
    kinds: dict[str, str] = {}
    for sample in samples:
        for name, value in sample.items():
            if isinstance(value, dict) and value.get("_cls") in ("Classification", "Classifications", "Detections"):
                kinds[name] = value["_cls"]
    columns: dict[str, list[str | None]] = {}
    for name, kind in kinds.items():
        names: list[str] = []
        found: Found = [_sample_classes(sample.get(name), names, file) for sample in samples]
        made = class_columns("class", found, names) if kind == "Classification" else presence(names, found)
        columns |= {f"{name}_{title}" if len(kinds) > 1 else title: cells for title, cells in made.items()}
    splits = [split_of(sample.get("tags") or ()) for sample in samples]
    if any(splits):
        columns["split"] = splits
    notes = [f"Read as FiftyOne: {_count(len(samples), 'sample')}, labels of {', '.join(kinds) or 'no field'}."]
    return _certain([str(s["filepath"]) for s in samples], columns, form="FiftyOne samples", notes=notes)


def _sample_classes(value: Any, names: list[str], file: Path) -> list[int] | None:
    if not isinstance(value, dict):
        return None
    several = next((value[key] for key in ("classifications", "detections") if key in value), None)
    ones = [value] if several is None else several
    return [i for one in ones if (i := _class_of(one, names, f"a sample in {file}")) is not None]


def _read_class_folders(folder: Path) -> Table:
    """Images in one folder per class, which may lie in one folder per split."""
    files: list[tuple[str, ...]] = []
    walk = FolderWalk(folder, refuse=_refuse)
    for _, below, names in walk:
        files += [(*below.split("/"), name) for name in sorted(names) if below and name.lower().endswith(ENDINGS)]
    if not files:
        raise BadInput(
            f"The folder {folder} holds no labels: expected a COCO, FiftyOne or YOLO export, or a folder of images for "
            "each class; for a table, name the file."
        )
    in_splits = all(split_of(parts[:1]) and len(parts) > 2 for parts in files)
    classes = [parts[1 if in_splits else 0] for parts in files]
    known = sorted(set(classes))
    place = {name: i for i, name in enumerate(known)}
    columns = class_columns("class", [[place[name]] for name in classes], known)
    if in_splits:
        columns["split"] = [split_of(parts[:1]) for parts in files]
    shown = ", ".join(known[:5]) + (", …" if len(known) > 5 else "")
    notes = [f"Read as folders of classes: {_count(len(known), 'class')} ({shown})."]
    return _certain(["/".join(parts) for parts in files], columns, form="folders of classes", notes=notes)


def presence(names: Sequence[str], found: Sequence[Sequence[int] | set[int] | None]) -> dict[str, list[str | None]]:
    """A column of 0/1 for every name: whether it is among those found in the image; None where nothing is known."""
    columns: dict[str, list[str | None]] = {}
    for i, name in enumerate(names):
        if name in columns:
            raise BadInput(f"The labels must give every category another name; got {name!r} twice.")
        columns[name] = [None if one is None else "1" if i in one else "0" for one in found]
    return columns


def _certain(
    images: Sequence[str], columns: Mapping[str, Sequence[str | None]], *, form: str, notes: Sequence[str]
) -> Table:
    if "image" in columns:
        raise BadInput("A category of the labels is called 'image', as the images are; rename it in the export.")
    return table_of({"image": images, **columns}, form=form, notes=tuple(notes), certain=True)


def _count(count: int, what: str) -> str:
    plural = "es" if what.endswith("s") else "s"
    return f"{count} {what}{'' if count == 1 else plural}"


def _refuse(error: OSError) -> None:
    raise BadInput(f"The folder {error.filename} cannot be listed: {error.strerror}.") from error
