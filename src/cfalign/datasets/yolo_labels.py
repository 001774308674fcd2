"""YOLO labels: a text file per image, whose lines begin with the number of a category."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from cfalign._errors import BadInput
from cfalign.datasets.file_kinds import ENDINGS
from cfalign.datasets.label_tables import Table, table_of

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_NAMES = ("classes.txt", "obj.names", "classes.names", "names.txt")
_LISTS = {*_NAMES, *(f"{name}.txt" for name in _SPLITS), "readme.txt", "license.txt", "notes.txt"}
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_LINE = re.compile(rf"(\d+)(\s+{_NUMBER}){{4,}}")


def is_yolo(path: Path) -> bool:
    """Whether it is the file that names the categories of such labels, or a folder that holds one."""
    if path.is_dir():
        return _names_file(path) is not None
    return path.suffix.lower() in (".yaml", ".yml", ".names") or path.name.lower() in _NAMES


def read_yolo(path: Path) -> Table:
    """The labels below a folder, or beside the file of names: a column of 0/1 for every category.

    An image of the export without a label file holds no object, as the format says. Raises BadInput where there are
    no names or label files, and for a line that is no object or has a number without a name.
    """
    names_file = _names_file(path) if path.is_dir() else path
    assert names_file is not None
    names = _names_in(names_file)
    folder = names_file.parent
    files = list(_label_files(folder, names_file))
    if not files:
        raise BadInput(f"{names_file} names categories as YOLO does, but there is no label file below {folder}.")
    found = {_image_of(file.relative_to(folder)): _categories(file, count=len(names)) for file in files}
    objects = len(found)
    for image in _unlabelled(folder, set(found)):
        found[image] = set()
    cells: dict[str, list[str | None]] = {
        name: ["1" if i in one else "0" for one in found.values()] for i, name in enumerate(names)
    }
    splits = [split_of(PurePosixPath(image).parts) for image in found]
    more = {"split": splits} if any(splits) else {}
    notes = [f"Read as YOLO: {objects} label files of {len(names)} categories."]
    if len(found) > objects:
        notes.append(
            f"Images of the export without a label file, which count as without objects: {len(found) - objects}."
        )
    return table_of({"image": list(found), **cells, **more}, form="YOLO labels", notes=tuple(notes), certain=True)


def split_of(parts: Sequence[str]) -> str | None:
    """The split that one of these names or folders means, as train, val or test."""
    found = {_SPLITS[part.lower()] for part in parts if part.lower() in _SPLITS}
    return found.pop() if len(found) == 1 else None


def _names_file(folder: Path) -> Path | None:
    here = sorted(file for file in folder.iterdir() if file.is_file())
    named = [file for file in here if file.name.lower() in _NAMES]
    yaml = [file for file in here if file.suffix.lower() in (".yaml", ".yml")]
    with_names = [file for file in yaml if re.search(r"(?m)^names\s*:", file.read_text("utf-8", "replace"))]
    return next(iter([*with_names, *named]), None)


def _names_in(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read as text: {error}.") from error
    names = _yaml_names(text) if file.suffix.lower() in (".yaml", ".yml") else text.split("\n")
    if names is None:
        raise BadInput(
            f"{file} must name the categories of YOLO labels as a list or by number, such as `names: [cat, dog]`; "
            "write it so, or write a line each into classes.txt beside it."
        )
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if not names or not all(names) or len(set(names)) < len(names):
        raise BadInput(f"{file} must name every category once, got {names[:5]}.")
    return names


def _yaml_names(text: str) -> list[str] | None:
    """The value of ``names`` in the forms that are usual; None for any other, which only a YAML library reads."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        return None
    value = _uncommented(lines[start].partition(":")[2]).strip()
    block: list[str] = []
    for line in lines[start + 1 :]:
        if line.strip() and not line.startswith((" ", "\t", "-", "#", "]", "}")):
            break
        block.append(_uncommented(line).strip())
    block = [line for line in block if line]
    if value[:1] in ("[", "{"):
        flow = " ".join([value, *block])
        if flow[-1] != {"[": "]", "{": "}"}[flow[0]]:
            return None
        parts = [part.strip() for part in re.findall(r"""(?:[^,"']|"[^"]*"|'[^']*')+""", flow[1:-1]) if part.strip()]
        return _items(parts, keyed=flow[0] == "{")
    if value or not block:
        return None
    listed = [line.startswith("- ") for line in block]
    if all(listed):
        return _items([line[2:].strip() for line in block], keyed=False)
    return None if any(listed) else _items(block, keyed=True)


def _items(parts: Sequence[str], *, keyed: bool) -> list[str] | None:
    if not keyed:
        plain = [_unquoted(part) for part in parts]
        return None if None in plain else [text for text in plain if text is not None]
    pairs = [re.fullmatch(r"['\"]?(\d+)['\"]?\s*:\s+(.+)", part) for part in parts]
    found = {int(pair.group(1)): _unquoted(pair.group(2)) for pair in pairs if pair is not None}
    if len(found) < len(parts) or sorted(found) != list(range(len(parts))):
        return None
    named = [found[i] for i in range(len(parts))]
    return None if None in named else [text for text in named if text is not None]


def _unquoted(text: str) -> str | None:
    """A scalar without its quotes; None for one that means more than its letters."""
    quoted = re.fullmatch(r"""'([^']*)'|"([^"\\]*)\"""", text)
    if quoted is not None:
        return quoted.group(1) or quoted.group(2)
    return None if re.match(r"[&*!|>%@`\[\]{}\"']", text) or ": " in text else text


def _uncommented(line: str) -> str:
    return re.sub(r"""(^|\s)#[^'"]*$""", "", line)


def _label_files(folder: Path, names_file: Path) -> Iterator[Path]:
    texts = sorted(file for file in folder.rglob("*.txt") if file.is_file() and file != names_file)
    below = [file for file in texts if "labels" in file.relative_to(folder).parts[:-1]]
    yield from below or [file for file in texts if file.name.lower() not in _LISTS]


def _image_of(file: Path) -> str:
    """The path of the image of a label file, without extension."""
    parts = ["images" if part == "labels" else part for part in file.parts[:-1]]
    return "/".join([*parts, file.name[: -len(file.suffix)]])


def _categories(file: Path, *, count: int) -> set[int]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read as text: {error}.") from error
    found: set[int] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None or int(match.group(1)) >= count:
            raise BadInput(
                f"{file}, line {number}: expected the number of one of {count} categories and at least four numbers, "
                f"got {line[:60]!r}."
            )
        found.add(int(match.group(1)))
    return found


def _unlabelled(folder: Path, known: set[str]) -> Iterator[str]:
    """Images of the export, without extension, that have no label file."""
    for images in sorted(place for place in folder.rglob("images") if (place.parent / "labels").is_dir()):
        for file in sorted(images.rglob("*")):
            if file.name.lower().endswith(ENDINGS) and file.is_file():
                name = file.relative_to(folder).with_suffix("").as_posix()
                if name not in known:
                    yield name
